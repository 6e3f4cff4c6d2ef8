#!/usr/bin/env bash
# Installs the built inference server, its unit, user and folders; a setting or key that is there stays as it is. A server that runs
# is started anew.
#   install-server.sh BUILT [DESTDIR]    BUILT is the folder with cerebrum-server and, where there are, its builds for faster processors
set -euo pipefail
cd "$(dirname "$0")/.."
built=$1
root=${2:-}
[ "$(id -u)" = 0 ] || exec sudo "$PWD/systemd/install-server.sh" "$@"

for build in cerebrum-server{.avx512,.avx2,}; do
    if [ -f "$built/$build" ]; then
        install -D -m 755 "$built/$build" "$root/usr/bin/$build"
    else
        # Of an earlier version, and the first build would go over to it.
        rm -f "$root/usr/bin/$build"
    fi
done
install -D -m 644 systemd/cerebrum-server.service "$root/etc/systemd/system/cerebrum-server.service"
# Fixed nowhere else: the user has no password, no home and no shell.
install -D -m 644 /dev/stdin "$root/etc/sysusers.d/cerebrum.conf" <<'SYSUSERS'
u cerebrum - "Cerebrum" / /usr/sbin/nologin
SYSUSERS
if [ -z "$root" ]; then systemd-sysusers /etc/sysusers.d/cerebrum.conf; fi
owner=$([ -z "$root" ] && echo cerebrum || echo root)
install -d -m 750 -o "$owner" -g "$owner" "$root/etc/cerebrum" "$root/var/lib/cerebrum" "$root/var/lib/cerebrum/models"
if [ ! -e "$root/etc/cerebrum/cerebrum-server.toml" ]; then
    install -m 640 -o "$owner" -g "$owner" /dev/stdin "$root/etc/cerebrum/cerebrum-server.toml" <<'SETTINGS'
listen = "0.0.0.0:9000"
keys_file = "server-keys.toml"
models_dir = "/var/lib/cerebrum/models"
default_model = "qwen2.5-coder-7b-instruct-q4_k_m"

[tls]
certificate = "tls/server.pem"
key = "tls/server.key"
client_ca = "tls/ca.pem"
SETTINGS
fi
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if systemctl is-active --quiet cerebrum-server; then
        systemctl restart cerebrum-server
        echo "Installed; the server was started anew."
        exit
    fi
fi
cat <<'NEXT'
Installed. What is left, as the user cerebrum (sudo -u cerebrum):
  cerebrum-server pki /etc/cerebrum/tls --host THIS-MACHINES-NAME
  cerebrum-server key add appliance
  cerebrum-server models pull qwen2.5-coder-7b-instruct-q4_k_m
then: sudo systemctl enable --now cerebrum-server
NEXT
