# The disk, in sectors of 512 bytes. Updates and the boot loader's script go by the same numbers.
# shellcheck disable=SC2034 # used by those who read this
STATE_SECTORS="2048 2064" # the boot loader's state, twice
BOOT_START=8192
BOOT_SECTORS=131072       # 64 MiB: firmware, boot loader, cerebrum.toml
SLOT_A_START=139264
SLOT_SECTORS=524288       # 256 MiB each
SLOT_B_START=663552
DATA_START=1187840        # to the end; the first start writes the true size
DATA_SECTORS=16384
SLOT_BOOT_SECTORS=65536   # 32 MiB: kernel, initramfs; the root begins after it
DISK_ID=0x43455231
DATA_FRESH=CRBFRESH       # in the data partition from byte 1024 on: image-build/init makes it anew
