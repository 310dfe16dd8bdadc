package smoke

import (
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// judge makes the claims about each service from what was seen.
func (r *run) judge(up bool) {
	for _, s := range r.workload.Services {
		r.result.Services = append(r.result.Services, r.judgeService(r.monitor.get(s.Name), s, up))
	}
}

// judgeService makes the claims about one service.
func (r *run) judgeService(l life, s release.ServiceSpec, up bool) release.SmokeService {
	service := release.SmokeService{Name: s.Name, OOMKilled: l.oom, Restarts: l.restarts, OOMKills: l.oomKills, FDs: -1, Tasks: -1, Log: r.said[s.Name]}
	service.Healthy = up && l.unhealthy == "" && len(l.exits) == 0 && !l.oom && l.restarts == 0 && (runs(l, s.OneShot) || r.vouched[s.Name])
	switch {
	case up:
		r.judgeLife(l, s, service.Healthy)
		if !s.OneShot {
			r.judgeConfinement(l, s)
			service.Memory = r.judgeMemory(l)
			r.judgeResources(l, &service)
		}
	case l.ailing(): // the others may only have waited for it
		r.judgeLife(l, s, false)
		service.Memory = r.judgeMemory(l)
	}
	return service
}

// ailing reports whether anything went wrong with a service.
func (l life) ailing() bool {
	return l.oom || l.restarts > 0 || l.unhealthy != "" || len(l.exits) > 0 || ailment(l.last, l.oneShot) != ""
}

func runs(l life, oneShot bool) bool {
	if oneShot {
		return l.last.State == "exited" && l.last.ExitCode == 0
	}
	return l.last.State == "running" && (l.last.Health == "healthy" || l.last.Health == "none" || l.last.Health == "")
}

// judgeLife: healthy at the end, and never otherwise since the start.
func (r *run) judgeLife(l life, s release.ServiceSpec, healthy bool) {
	name := "healthy/" + l.name
	if healthy {
		switch {
		case s.OneShot:
			r.add(name, release.Passed, "completed with exit code 0")
		case l.last.Health == "healthy":
			r.add(name, release.Passed, "healthy, no restart")
		case r.vouched[s.Name]:
			r.add(name, release.Passed, "its health check passes, no restart; the engine had not asked yet")
		default:
			r.add(name, release.Warned, "runs, no restart; without a health check that is all that can be said")
		}
		return
	}
	var why []string
	if l.oom {
		why = append(why, fmt.Sprintf("killed for want of memory (limit %s)", release.FormatSize(l.limit)))
	}
	if l.restarts > 0 {
		why = append(why, fmt.Sprintf("restarted %d times", l.restarts))
	}
	if l.unhealthy != "" {
		why = append(why, l.unhealthy)
	}
	if n := len(l.exits); n > 0 {
		why = append(why, fmt.Sprintf("ended %d times by itself, %s", n, l.exits[n-1]))
	}
	if len(why) == 0 {
		why = append(why, fmt.Sprintf("it is %s, %s", l.last.State, l.last.Health))
	}
	text := strings.Join(why, "; ")
	if !strings.Contains(text, endOfLog) {
		text += r.words[l.name]
	}
	r.add(name, release.Failed, "%s", text)
}
