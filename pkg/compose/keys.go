package compose

import "strings"

// verdict says what happens to a key of the Compose Specification.
type verdict int

const (
	unknown verdict = iota // not in the specification that we know: refused
	mapped                 // taken over into the workload
	judged                 // taken over or refused; rules.go and limits.go look at the value
	ignored                // has no effect on a container of a Docker host
	refused                // means something that would be lost, or would differ at another place
)

// key is the verdict on one key, with why and what to do instead.
type key struct {
	verdict
	why, fix string
}

// Paths in the table: "*" is a name that the author chooses, "[]" an entry of
// a list. What lies below a path that has no longer path in the table is free.
var keys = compile([]entry{
	{"", mapped, "name include services networks volumes secrets configs", "", ""},
	{"", ignored, "version", "Compose ignores it too", ""},
	{"", refused, "models", "a model server is not part of a release", "run it as a service, or name its address in environment"},
	{"include[].", mapped, "path project_directory", "", ""},
	{"include[].", refused, "env_file", "values do not belong into a release", "use environments.E.envFile in promote.yaml"},

	{"services.*.", mapped, "build command container_name cap_drop cpus depends_on deploy dns entrypoint environment expose extends extra_hosts group_add healthcheck hostname image init labels logging mem_limit mem_reservation memswap_limit networks oom_score_adj pids_limit ports pre_stop profiles read_only restart secrets shm_size stdin_open stop_grace_period stop_signal sysctls tty ulimits working_dir", "", ""},
	{"services.*.", judged, "cap_add cgroup configs device_cgroup_rules devices gpus ipc network_mode pid privileged scale security_opt tmpfs use_api_socket user userns_mode uts volumes", "", ""},
	{"services.*.", ignored, "attach", "it concerns the output of docker compose up", ""},
	{"services.*.", ignored, "develop", "it concerns docker compose watch", ""},
	{"services.*.", ignored, "pull_policy pull_refresh_after", "a release's images are digests, pulled once", ""},
	{"services.*.", ignored, "platform", "build.platforms in promote.yaml and the digest decide", ""},
	{"services.*.", refused, "env_file label_file", "it would be read at another place than where it was judged", "use environments.E.envFile in promote.yaml, and environment: or labels: here"},
	{"services.*.", refused, "provider", "it runs a program of the machine that deploys", "run it as a service"},
	{"services.*.", refused, "models", "a model server is not part of a release", "run it as a service, or name its address in environment"},
	{"services.*.", refused, "links external_links", "links come from the time before networks", "let both services join a network; names and aliases resolve there"},
	{"services.*.", refused, "volumes_from", "it hides which volumes a service needs", "name the volumes under volumes"},
	{"services.*.", refused, "post_start pre_start", "it is not run", "use a service that completes, with depends_on: condition: service_completed_successfully"},
	{"services.*.", refused, "blkio_config cgroup_parent cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpuset mem_swappiness oom_kill_disable storage_opt", "this limit is not carried over", "use cpus, mem_limit, memswap_limit and pids_limit"},
	{"services.*.", refused, "annotations credential_spec dns_opt dns_search domainname isolation mac_address runtime", "it is not carried over", "remove it"},

	{"services.*.build.", mapped, "args context dockerfile target", "", ""},
	{"services.*.build.", ignored, "cache_from cache_to no_cache no_cache_filter platforms provenance pull sbom tags", "build in promote.yaml decides", ""},
	{"services.*.build.", ignored, "isolation shm_size ulimits", "they do not change the image", ""},
	{"services.*.build.", refused, "additional_contexts dockerfile_inline entitlements extra_hosts labels network privileged secrets ssh", "the build would not be the same everywhere", "say it in the Dockerfile"},

	{"services.*.depends_on.*.", mapped, "condition required", "", ""},
	{"services.*.depends_on.*.", ignored, "restart", "a deploy replaces what changed, in order", ""},
	{"services.*.extends.", mapped, "file service", "", ""},
	{"services.*.env_file[].", refused, "format path required", "it would be read at another place than where it was judged", "use environments.E.envFile in promote.yaml"},
	{"services.*.healthcheck.", mapped, "disable interval retries start_interval start_period test timeout", "", ""},
	{"services.*.logging.", mapped, "driver options", "", ""},
	{"services.*.networks.*.", mapped, "aliases ipv4_address priority", "", ""},
	{"services.*.networks.*.", refused, "driver_opts gw_priority interface_name ipv6_address link_local_ips mac_address", "it is not carried over", "remove it"},
	{"services.*.ports[].", mapped, "host_ip protocol published target", "", ""},
	{"services.*.ports[].", ignored, "app_protocol mode name", "they only mean something to a Swarm or to people", ""},
	{"services.*.secrets[].", mapped, "source target", "", ""},
	{"services.*.secrets[].", ignored, "gid mode uid", "a file of the host keeps its owner and mode, as with Docker Compose", ""},
	{"services.*.configs[].", mapped, "source target", "", ""},
	{"services.*.configs[].", ignored, "gid mode uid", "a file of the host keeps its owner and mode, as with Docker Compose", ""},
	{"services.*.ulimits.*.", mapped, "hard soft", "", ""},
	{"services.*.pre_stop[].", mapped, "command environment user working_dir", "", ""},
	{"services.*.pre_stop[].", refused, "privileged", "a hook may do what its service may", "remove it"},
	{"services.*.volumes[].", mapped, "read_only target", "", ""},
	{"services.*.volumes[].", judged, "source type", "", ""},
	{"services.*.volumes[].", ignored, "consistency", "it only means something on a Mac", ""},
	{"services.*.volumes[].", refused, "image", "image mounts are not carried over", "copy the files in the Dockerfile"},
	{"services.*.volumes[].bind.", ignored, "create_host_path", "a path that is missing on the host is an error", ""},
	{"services.*.volumes[].bind.", refused, "propagation recursive selinux", "it is not carried over", "remove it"},
	{"services.*.volumes[].volume.", mapped, "nocopy", "", ""},
	{"services.*.volumes[].volume.", refused, "labels subpath", "it is not carried over", "use a volume of its own"},
	{"services.*.volumes[].tmpfs.", mapped, "mode size", "", ""},
	{"services.*.volumes[].image.", refused, "subpath", "image mounts are not carried over", "copy the files in the Dockerfile"},

	{"services.*.deploy.", mapped, "resources restart_policy update_config", "", ""},
	{"services.*.deploy.", judged, "replicas", "", ""},
	{"services.*.deploy.", ignored, "endpoint_mode labels mode placement rollback_config", "it only means something to a Swarm; strategy in promote.yaml decides", ""},
	{"services.*.deploy.resources.", mapped, "limits reservations", "", ""},
	{"services.*.deploy.resources.limits.", mapped, "cpus memory pids", "", ""},
	{"services.*.deploy.resources.reservations.", mapped, "memory", "", ""},
	{"services.*.deploy.resources.reservations.", judged, "devices", "", ""},
	{"services.*.deploy.resources.reservations.", ignored, "cpus generic_resources", "they only mean something to a Swarm", ""},
	{"services.*.deploy.update_config.", judged, "order", "", ""},
	{"services.*.deploy.update_config.", ignored, "delay failure_action max_failure_ratio monitor parallelism", "strategy in promote.yaml decides", ""},
	{"services.*.deploy.restart_policy.", mapped, "condition max_attempts", "", ""},
	{"services.*.deploy.restart_policy.", ignored, "delay window", "they only mean something to a Swarm", ""},

	{"networks.*.", mapped, "driver driver_opts internal labels name", "", ""},
	{"networks.*.", judged, "external", "", ""},
	{"networks.*.", ignored, "attachable", "it only means something to a Swarm", ""},
	{"networks.*.", refused, "enable_ipv4 enable_ipv6 ipam", "addresses are the engine's business", "make the network on the host and write external: true"},
	{"volumes.*.", mapped, "driver labels name", "", ""},
	{"volumes.*.", judged, "driver_opts external", "", ""},
	{"secrets.*.", judged, "file", "", ""},
	{"secrets.*.", mapped, "name", "", ""},
	{"secrets.*.", ignored, "labels", "they only mean something to a Swarm", ""},
	{"secrets.*.", refused, "driver driver_opts environment external template_driver", "a secret is a file on the target", "write file: with an absolute path; the file is put there once, by whoever runs the host"},
	{"configs.*.", judged, "file", "", ""},
	{"configs.*.", mapped, "name", "", ""},
	{"configs.*.", ignored, "labels", "they only mean something to a Swarm", ""},
	{"configs.*.", refused, "content environment external template_driver", "it would not be part of what was judged", "copy it into the image in the Dockerfile"},
})

// entry is one line of the table: several keys of one place.
type entry struct {
	at string
	verdict
	names    string
	why, fix string
}

// table is the verdicts by path, with the names known at each place.
type table struct {
	at    map[string]key
	below map[string][]string // path → the next steps: names, "*" or "[]"
}

func compile(entries []entry) table {
	t := table{at: map[string]key{}, below: map[string][]string{}}
	seen := map[string]bool{}
	for _, e := range entries {
		for name := range strings.FieldsSeq(e.names) {
			path := e.at + name
			t.at[path] = key{e.verdict, e.why, e.fix}
			steps := splitSteps(path)
			for i, step := range steps {
				parent := joinSteps(steps[:i])
				if id := parent + "\x00" + step; !seen[id] {
					seen[id] = true
					t.below[parent] = append(t.below[parent], step)
				}
			}
		}
	}
	return t
}

// splitSteps turns "services.*.ports[].target" into its steps.
func splitSteps(path string) []string {
	return strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
}

func joinSteps(steps []string) string {
	return strings.ReplaceAll(strings.Join(steps, "."), ".[]", "[]")
}

// Paths that stand for no single key.
const (
	anywhere = "…" // the specification leaves what is here to the author
	nowhere  = "?" // the specification has no such key
)

// step goes from a path to what lies below it under a name.
func (t table) step(path, name string) string {
	if path == anywhere || path != "" && len(t.below[path]) == 0 {
		return anywhere
	}
	for _, s := range t.below[path] {
		if s == name || s == "*" {
			return strings.TrimPrefix(path+"."+s, ".")
		}
	}
	if len(t.known(path)) > 0 && strings.HasPrefix(name, "x-") {
		return anywhere
	}
	if len(t.known(path)) == 0 {
		return anywhere // a mapping where a list is meant; the schema judges that
	}
	return nowhere
}

// items goes from a path to the entries of its list.
func (t table) items(path string) string {
	for _, s := range t.below[path] {
		if s == "[]" {
			return path + "[]"
		}
	}
	return anywhere
}

// known lists the names that the specification has at a path; none where names
// are of the author's choice.
func (t table) known(path string) []string {
	var names []string
	for _, s := range t.below[path] {
		if s != "*" && s != "[]" {
			names = append(names, s)
		}
	}
	return names
}
