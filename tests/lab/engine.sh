# shellcheck shell=bash
# Sourced by docker.sh: a Docker engine, its arm64 emulation, and a Mosquitto image.

# Uses the engine of this machine, or starts one in namespaces that end with the test, together with its
# network, firewall rules and containers.
need_engine() {
  if docker info >/dev/null 2>&1; then
    # A client without buildx cannot use BuildKit, unless it is as old as Debian's.
    docker buildx version >/dev/null 2>&1 ||
      ! packages docker.io || PATH=/usr/bin:$PATH
    note "engine of this machine: $(docker version -f '{{.Server.Version}}')"
    return
  fi
  packages docker.io iptables iproute2 || skip "Docker cannot be installed"
  PATH=/usr/bin:/usr/sbin:/sbin:$PATH
  if [ -z "${BMS_LAB_ISOLATED:-}" ]; then
    run_isolated
  fi
  ip link set lo up
  export DOCKER_HOST=unix://$WORK/docker.sock
  start engine dockerd --data-root "$WORK/docker" --exec-root "$WORK/docker-run" \
    --pidfile "$WORK/docker.pid" -H "$DOCKER_HOST"
  wait_for 60 docker info ||
    skip "the Docker engine does not start: $(tail -n 2 "$WORK/engine.log" | cut -c1-300)"
  note "started engine: $(docker version -f '{{.Server.Version}}')"
}

# Runs the script again inside namespaces, removes its cgroups, and exits with its status.
run_isolated() {
  local status=0 groups_before=()
  for group in /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker; do
    [ ! -d "$group" ] || groups_before+=("$group")
  done
  BMS_LAB_ISOLATED=1 TMPDIR=$WORK unshare --net --mount --pid --fork --mount-proc --kill-child \
    "$0" || status=$?
  for group in /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker; do
    [[ " ${groups_before[*]} " == *" $group "* ]] || rmdir "$group" 2>/dev/null || true
  done
  exit "$status"
}

# Registers the arm64 emulator with the kernel. The flag F opens it now, so containers need not contain it.
need_arm64() {
  local folder=/proc/sys/fs/binfmt_misc entry=bms-lab-arm64 magic mask
  runs_arm64() { [ "$(uname -m)" = aarch64 ] || grep -qsl aarch64 "$folder"/*aarch64*; }
  runs_arm64 && return
  if [ ! -e "$folder/register" ]; then
    mount -t binfmt_misc binfmt_misc "$folder" || return 1
    at_exit "umount $folder"
  fi
  magic=$(sed -n 's/^magic //p' /usr/share/binfmts/qemu-aarch64)
  mask=$(sed -n 's/^mask //p' /usr/share/binfmts/qemu-aarch64)
  printf ':%s:M:0:%s:%s:%s:F' "$entry" "$magic" "$mask" "$(command -v qemu-aarch64-static)" \
    >"$folder/register" || return 1
  at_exit "echo -1 >$folder/$entry"
}

# mosquitto_image TAG: builds an image without a registry, from the installed Mosquitto, its libraries and a
# shell. Paths, command and user are those of the official image.
mosquitto_image() {
  local folder=$WORK/mosquitto program
  mkdir -p "$folder"/{bin,etc,tmp,usr/bin,usr/sbin,mosquitto/{config,data,log}}
  for program in mosquitto mosquitto_passwd mosquitto_pub mosquitto_sub; do
    program=$(command -v "$program")
    cp --parents -L "$program" "$folder"
    ldd "$program" | grep -o '/[^ ]*' | xargs -I{} cp -n --parents -L {} "$folder"
  done
  cp /bin/busybox "$folder/bin/busybox"
  for program in sh base64 cat chmod chown head mv touch; do ln -sf busybox "$folder/bin/$program"; done
  printf 'root:x:0:0::/:/bin/sh\nmosquitto:x:1883:1883::/mosquitto:/bin/sh\n' >"$folder/etc/passwd"
  printf 'root:x:0:\nmosquitto:x:1883:\n' >"$folder/etc/group"
  chown -R 1883:1883 "$folder/mosquitto"
  chmod 1777 "$folder/tmp"
  tar -C "$folder" -c . | docker import \
    --change 'CMD ["/usr/sbin/mosquitto","-c","/mosquitto/config/mosquitto.conf"]' \
    --change 'ENV PATH=/usr/sbin:/usr/bin:/bin' --change 'EXPOSE 1883' - "$1" >/dev/null
}
