#!/usr/bin/env bash
# The first process of a host: init.sh NAME FOLDER FREEZER. It makes the namespaces that it was started in a host of the lab, says
# `ready`, adopts orphans, and ends with its standard input. The host ends with it.
set -eu
name=$1 folder=$2 freezer=$3
echo 0 > "$freezer"
hostname "$name"
mount --make-rprivate /
# The interfaces of this host, with the machine's control groups.
groups=$(mktemp -d "$folder/groups.XXXXXX")
mount --rbind /sys/fs/cgroup "$groups"
mount -t sysfs sysfs /sys
mount --rbind "$groups" /sys/fs/cgroup
umount -l "$groups"
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/ssh_config" /etc/ssh/ssh_config
mount -t tmpfs -o size=2g tmpfs /dev/shm
mkdir -p /run/sshd
/usr/sbin/sshd -f "$folder/$name.sshd_config" -E "$folder/$name.sshd.log" < /dev/null
echo ready
while read -r _; do :; done
