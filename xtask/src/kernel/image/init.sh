#!/bin/busybox sh
# The first process of the machine of `cargo xtask kernel`: mounts, runs the lab with every example,
# says by the second serial line how that ended, and switches the machine off.

# Before busybox's own programs come those of the same name that the lab calls.
/bin/busybox mkdir -p /busybox /dev /etc /proc /run /sbin /sys /tmp /var/lib
/bin/busybox --install -s /busybox
export PATH=/bin:/busybox
# There the kernel looks for it.
ln -s /bin/modprobe /sbin/modprobe

mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp

# The kernel loads most of what is asked for by itself. By its path, for this shell takes its own
# programs before all others.
for module in veth bridge br_netfilter nf_tables nft_ct cls_bpf sch_ingress tun; do
    /bin/modprobe $module || echo "there is no module $module"
done

uname -r
lab --netbpf /bin/netbpf $(for example in /examples/*.toml; do echo --config $example; done)
echo $? >/dev/ttyS1
poweroff -f
