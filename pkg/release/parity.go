package release

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Difference is one way in which the model that smoke tests is not the one that
// a later environment runs.
type Difference struct {
	Environment string `json:"environment"`
	Service     string `json:"service,omitempty"` // empty: the model as a whole
	Field       string `json:"field"`
	Tested      string `json:"tested"` // what the tested model has, for people
	There       string `json:"there"`  // what the environment's model has
	// Grave: what runs there may fail in a way that the test cannot have shown.
	Grave bool `json:"grave,omitempty"`
}

// String gives "planner: memory: production has 512.0 MiB, the tested model none".
func (d Difference) String() string {
	text := fmt.Sprintf("%s: %s has %s, the tested model %s", d.Field, d.Environment, d.There, d.Tested)
	if d.Service == "" {
		return text
	}
	return d.Service + ": " + text
}

// Differences compares what was tested with what an environment will run, for
// all that decides whether a test under the one says anything about the other:
// limits, confinement, health checks, mounts, the names of environment
// variables, restart policies and commands. Values of variables, logging,
// published ports and names that belong to a project are meant to differ.
// What is stricter there, less, or absent there is grave; the rest is worth a
// look. They are sorted by service and field.
func Differences(environment string, tested, there Workload) []Difference {
	p := &parity{environment: environment}
	for _, s := range tested.Services {
		other, ok := there.Service(s.Name)
		if p.service = s.Name; !ok {
			p.add("service", "it", "no such service", true)
			continue
		}
		p.limits(s, other)
		p.confinement(s, other)
		p.behaviour(s, other)
		p.mounts(mountsOf(tested, s), mountsOf(there, other))
		p.variables(s.Environment, other.Environment)
	}
	for _, s := range there.Services {
		if _, ok := tested.Service(s.Name); !ok {
			p.service = s.Name
			p.add("service", "no such service", "it", true)
		}
	}
	slices.SortStableFunc(p.found, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Field, b.Field))
	})
	return p.found
}

// parity collects the differences of one service after the other.
type parity struct {
	environment, service string
	found                []Difference
}

func (p *parity) add(field, tested, there string, grave bool) {
	p.found = append(p.found, Difference{Environment: p.environment, Service: p.service, Field: field, Tested: tested, There: there, Grave: grave})
}

// limits: less than was tested is grave. A limit that the test did not have is
// less than none.
func (p *parity) limits(a, b ServiceSpec) {
	p.limit("memory", float64(a.MemoryLimit), float64(b.MemoryLimit), true, sized)
	if a.MemoryLimit == b.MemoryLimit { // else it follows from that
		p.limit("memorySwap", float64(swapTotal(a)), float64(swapTotal(b)), true, sized)
	}
	p.limit("pids", float64(a.PIDs), float64(b.PIDs), true, counted)
	p.limit("cpus", a.CPUs, b.CPUs, false, counted)
	p.limit("shmSize", float64(a.ShmSize), float64(b.ShmSize), false, sized)
	p.same("ulimits", a.Ulimits, b.Ulimits, false)
	p.limit("stopGracePeriod", grace(a), grace(b), false, func(n float64) string { return counted(n) + " s" })
}

// limit compares numbers of which 0 and less mean none.
func (p *parity) limit(field string, tested, there float64, grave bool, text func(float64) string) {
	tested, there = max(tested, 0), max(there, 0)
	if tested != there {
		less := there > 0 && (tested == 0 || there < tested)
		p.add(field, text(tested), text(there), grave && less)
	}
}

// swapTotal is what memory and swap may be together, by the engine's default of
// twice the memory; 0 is unlimited.
func swapTotal(s ServiceSpec) int64 {
	if s.MemorySwap == 0 {
		return 2 * s.MemoryLimit
	}
	return max(s.MemorySwap, 0)
}

// grace gives the seconds for stopping; the engine's are ten.
func grace(s ServiceSpec) float64 { return cmp.Or(s.StopGrace.Seconds(), 10) }

// confinement: hardening that was not tested may break what was; less of it
// than was tested breaks nothing.
func (p *parity) confinement(a, b ServiceSpec) {
	p.strict("readOnly", a.ReadOnly, b.ReadOnly, "a read-only root", "a writable root")
	p.strict("noNewPrivileges", noNewPrivileges(a), noNewPrivileges(b), "no new privileges", "new privileges allowed")
	p.strict("privileged", !a.Privileged, !b.Privileged, "no privileges", "all privileges")
	dropped, drops := capabilities(a.CapDrop), capabilities(b.CapDrop)
	p.sets("capDrop", dropped, drops, !slices.Contains(dropped, "ALL") && !subset(drops, dropped))
	added, adds := capabilities(a.CapAdd), capabilities(b.CapAdd)
	p.sets("capAdd", added, adds, !slices.Contains(adds, "ALL") && !subset(added, adds))
	options, others := profiles(a), profiles(b)
	p.sets("securityOpt", options, others, !subset(others, options))
	if a.User != b.User {
		p.add("user", owner(a.User), owner(b.User), !root(b.User))
	}
	groups, theirs := slices.Sorted(slices.Values(a.GroupAdd)), slices.Sorted(slices.Values(b.GroupAdd))
	p.sets("groupAdd", groups, theirs, !subset(groups, theirs))
}

func (p *parity) strict(field string, tested, there bool, yes, no string) {
	if tested != there {
		words := map[bool]string{true: yes, false: no}
		p.add(field, words[tested], words[there], there)
	}
}

func (p *parity) sets(field string, tested, there []string, grave bool) {
	if !slices.Equal(tested, there) {
		p.add(field, listed(tested), listed(there), grave)
	}
}

func noNewPrivileges(s ServiceSpec) bool {
	return slices.ContainsFunc(s.SecurityOpt, func(o string) bool {
		name, value, _ := strings.Cut(strings.ReplaceAll(o, "=", ":"), ":")
		return name == "no-new-privileges" && value != "false"
	})
}

// profiles are the security options that confine; those that take a
// confinement away cannot break what ran with it.
func profiles(s ServiceSpec) []string {
	var out []string
	for _, o := range s.SecurityOpt {
		o = strings.ReplaceAll(o, "=", ":")
		if !strings.HasPrefix(o, "no-new-privileges") && !strings.HasSuffix(o, ":unconfined") && !strings.HasSuffix(o, ":disable") {
			out = append(out, o)
		}
	}
	return slices.Sorted(slices.Values(out))
}

func capabilities(names []string) []string {
	var out []string
	for _, n := range names {
		n = strings.TrimPrefix(strings.ToUpper(n), "CAP_")
		if n == "ALL" {
			return []string{n}
		}
		out = append(out, n)
	}
	return slices.Compact(slices.Sorted(slices.Values(out)))
}

func subset(part, of []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(of, s) })
}

func root(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "root" || name != "" && strings.Trim(name, "0") == ""
}

func owner(user string) string {
	if user == "" {
		return "the image's"
	}
	return user
}

// behaviour: what decides how a service starts and how failures are met.
func (p *parity) behaviour(a, b ServiceSpec) {
	if !reflect.DeepEqual(a.Health, b.Health) {
		p.add("healthcheck", healthText(a.Health), healthText(b.Health), false)
	}
	if a.Restart != b.Restart {
		p.add("restart", restartText(a.Restart), restartText(b.Restart), false)
	}
	p.same("command", a.Command, b.Command, false)
	p.same("entrypoint", a.Entrypoint, b.Entrypoint, false)
	p.same("stopSignal", a.StopSignal, b.StopSignal, false)
	p.same("preStop", hookCommands(a), hookCommands(b), false)
}

func (p *parity) same(field string, tested, there any, grave bool) {
	if !reflect.DeepEqual(tested, there) {
		p.add(field, plain(tested), plain(there), grave)
	}
}

func plain(v any) string {
	if reflect.ValueOf(v).Len() == 0 {
		return "none"
	}
	return clip(fmt.Sprint(v))
}

func hookCommands(s ServiceSpec) []string {
	var list []string
	for _, h := range s.PreStop {
		list = append(list, strings.Join(h.Command, " "))
	}
	return list
}

func healthText(h *Health) string {
	if h == nil {
		return "the image's"
	}
	text := strings.Join(h.Test, " ")
	if h.Interval > 0 {
		text += " every " + h.Interval.String()
	}
	if h.Timeout > 0 {
		text += ", timeout " + h.Timeout.String()
	}
	if h.Retries > 0 {
		text += fmt.Sprintf(", %d retries", h.Retries)
	}
	if h.StartPeriod > 0 {
		text += ", start period " + h.StartPeriod.String()
	}
	return clip(text)
}

func restartText(r Restart) string {
	if r.Max > 0 {
		return r.Name + ":" + strconv.Itoa(r.Max)
	}
	return cmp.Or(r.Name, "no")
}

// mounts: by the place in the container. Another volume there is another
// memory, and none is no memory at all.
func (p *parity) mounts(tested, there map[string]string) {
	for _, target := range slices.Sorted(maps.Keys(tested)) {
		if other, ok := there[target]; !ok {
			p.add("mounts", tested[target]+" at "+target, "nothing at "+target, true)
		} else if other != tested[target] {
			p.add("mounts", tested[target], other+" at "+target, true)
		}
	}
	for _, target := range slices.Sorted(maps.Keys(there)) {
		if _, ok := tested[target]; !ok {
			p.add("mounts", "nothing", there[target]+" at "+target, true)
		}
	}
}

// mountsOf describes a service's mounts by their targets. A volume of the
// project's own is known by its key, one with a name of its own by that; where
// on its machine a file comes from is each environment's own affair.
func mountsOf(w Workload, s ServiceSpec) map[string]string {
	out := map[string]string{}
	for _, m := range s.Mounts {
		text := m.Type
		if m.Type == "volume" {
			text = "volume " + volumeKey(w, m.Source)
		}
		if m.Size > 0 {
			text += " of " + sized(float64(m.Size))
		}
		if m.ReadOnly {
			text += " (read-only)"
		}
		out[m.Target] = text
	}
	return out
}

func volumeKey(w Workload, name string) string {
	for _, v := range w.Volumes {
		if v.Name == name && !v.External && name == w.Project+"_"+v.Key {
			return v.Key
		}
	}
	if name == "" {
		return "without a name"
	}
	return name
}

// variables compares the names of environment variables, never their values.
func (p *parity) variables(tested, there map[string]string) {
	if lacks := without(tested, there); len(lacks) > 0 {
		p.add("environment", "it", "no "+strings.Join(lacks, ", "), true)
	}
	if more := without(there, tested); len(more) > 0 {
		p.add("environment", "not", strings.Join(more, ", "), false)
	}
}

func without(a, b map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[k]; !ok {
			out = append(out, k)
		}
	}
	return out
}

func listed(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func counted(n float64) string {
	if n == 0 {
		return "none"
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}

func sized(n float64) string {
	if n == 0 {
		return "none"
	}
	return FormatSize(int64(n))
}
