# Starts the kernel of the slot that this comes from. Kernel and initramfs are wrapped with checksums, which bootm compares:
# what is torn or rotten goes back to the chooser. extra_args comes from uboot.env, and is empty there.
if load mmc 0:${part} 0x0a000000 kernel.img && load mmc 0:${part} 0x0c000000 initramfs.img; then
  setenv bootargs "cerebrum.slot=${chosen} cerebrum.root=@ROOT@ panic=10 quiet loglevel=5 net.ifnames=1 systemd.show_status=no cryptomgr.notests transparent_hugepage=never ${extra_args}"
  bootm 0x0a000000 0x0c000000 ${fdt_addr}
fi
