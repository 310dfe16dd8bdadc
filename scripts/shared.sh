# Sourced by the scripts beside it: where things lie, how they speak, and how a
# process of ours is told from anybody else's.
# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this use them

export GOEXPERIMENT=jsonv2 # Trivy needs it at build time

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=${PROMOTE_STATE:-/var/lib/promote} # what private daemons keep
run=${PROMOTE_RUN:-/run/promote}         # their sockets and process ids
mark=.made-by-promote                    # in both, so that nothing else is ever removed
docker_socket=$run/docker.sock
buildkit_socket=$run/buildkitd.sock

# The addresses of the private engine's networks, and the packet filter's rule
# for what stays among them.
pool=10.213.0.0/16
own_traffic=(-s "$pool" -d "$pool" -j ACCEPT)

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# fail says what is wrong and what to do, and ends the script.
fail() {
  say "$1"
  [ $# -lt 2 ] || printf '  → %s\n' "${@:2}" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    fail "this needs root: $*" "run it as root once, or where sudo asks no password"
  fi
}

# listens reports whether a process accepts connections on a socket. Status 7
# is curl's "could not connect"; any other answer comes from somebody.
listens() {
  local status=0
  curl -s -o /dev/null -m 5 --unix-socket "$1" http://localhost/ || status=$?
  [ "$status" -ne 7 ] && [ "$status" -ne 28 ]
}

# engine_answers reports whether a Docker engine answers at an address.
engine_answers() {
  case $1 in
    unix://*) curl -fs -o /dev/null -m 10 --unix-socket "${1#unix://}" http://localhost/_ping ;;
    tcp://*) curl -fs -o /dev/null -m 10 "http://${1#tcp://}/_ping" ||
      curl -ks -o /dev/null -m 10 "https://${1#tcp://}/_ping" ;;
    ssh://*) docker --host "$1" version >/dev/null 2>&1 ;;
    *) return 1 ;;
  esac
}

# born prints when a process started, in the kernel's ticks: with the number it
# names a process for good, as numbers are used again. A zombie is nobody.
born() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }" # the name before it may hold anything
  [ "${fields[0]}" != Z ] && printf '%s' "${fields[19]}"
}

# alive reports whether the process that a file of start_daemon names runs.
alive() {
  local pid started
  [ -r "$1" ] && read -r pid started <"$1" && [ "$(born "$pid")" = "$started" ]
}

# start_daemon NAME COMMAND... starts a process as root, detached from this
# terminal, and notes it in $run/NAME.process. Its output goes to $state/NAME.log.
start_daemon() {
  local name=$1
  shift
  # shellcheck disable=SC2016 # expanded by the shell that starts it
  as_root env -u DOCKER_HOST NAME="$name" RUN="$run" STATE="$state" bash -c '
    setsid "$@" </dev/null >"$STATE/$NAME.log" 2>&1 9>&- &
    pid=$!
    read -r stat <"/proc/$pid/stat"
    read -ra fields <<<"${stat##*) }"
    echo "$pid ${fields[19]}" >"$RUN/$NAME.process"
  ' bash "$@"
}

# patience COMMAND... repeats a command for thirty seconds until it succeeds.
patience() {
  for _ in {1..150}; do
    "$@" && return
    sleep 0.2
  done
  return 1
}

# start_engine starts an engine that shares nothing with another one: not its
# containers, its configuration, its containerd or the host's packet filter.
start_engine() {
  say "starting a private engine: $docker_socket"
  # What a killed one noted is stale; to it a zombie that nobody reaps is alive.
  local note
  for note in "$run/docker.pid" "$run/docker/containerd/containerd.pid"; do
    [ ! -e "$note" ] || born "$(cat "$note")" >/dev/null || as_root rm -f "$note"
  done
  printf '{}\n' | as_root tee "$state/docker.json" >/dev/null
  start_daemon docker dockerd \
    --host "unix://$docker_socket" --group "$(id -g)" \
    --data-root "$state/docker" --exec-root "$run/docker" --pidfile "$run/docker.pid" \
    --config-file "$state/docker.json" \
    --containerd-namespace promote --containerd-plugins-namespace promote-plugins \
    --bridge none --default-address-pool "base=$pool,size=24" \
    --iptables=false --ip6tables=false --ip-forward=false
  patience engine_answers "unix://$docker_socket"
}

# compile OUTPUT PACKAGE... builds a Go binary and keeps talking: the first
# build of everything takes minutes.
compile() {
  local output=$1 begun=$SECONDS said=$SECONDS packages=0 line status
  shift
  command -v go >/dev/null || fail "Go is not installed" \
    "https://go.dev/dl/ (version $(sed -n 's/^go //p' "$root/go.mod") or newer)"
  # Lines are the packages as they are compiled, and whatever goes wrong.
  while IFS= read -r line; do
    case $line in
      status=*) status=${line#status=} ;;
      *[[:space:]:]*) printf '%s\n' "$line" >&2 ;;
      *) packages=$((packages + 1)) ;;
    esac
    if [ $((SECONDS - said)) -ge 10 ]; then
      said=$SECONDS
      say "building ${output##*/}: $packages packages, $((SECONDS - begun)) s"
    fi
  done < <(
    cd "$root" && go build -v -o "$output" "$@" 2>&1
    echo "status=$?"
  )
  [ "${status:-1}" -eq 0 ] || fail "building ${output##*/} failed"
  [ "$packages" -eq 0 ] || say "built ${output##*/}: $packages packages, $((SECONDS - begun)) s"
}
