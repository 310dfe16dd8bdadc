package engine

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// Usage samples a running container's resources once. Memory is the working
// set: usage without what the kernel gives back on demand. That is less than
// `docker stats` shows, which takes inactive file pages off but leaves active
// ones in. On an engine of this machine the kernel is asked: engines publish no
// more than one sample a second, which is too few to see a short peak.
func (h *Host) Usage(ctx context.Context, id string) (release.Usage, error) {
	total, err := h.totalMemory(ctx)
	if err != nil {
		return release.Usage{}, err
	}
	u, ok := h.kernelUsage(ctx, id)
	if !ok {
		if u, err = h.engineUsage(ctx, id); err != nil {
			return release.Usage{}, err
		}
	}
	if u.Limit >= total { // what is reported where there is none
		u.Limit = 0
	}
	return u, ctx.Err()
}

func (h *Host) kernelUsage(ctx context.Context, id string) (release.Usage, bool) {
	g, ok := h.cgroupOf(ctx, id)
	if !ok {
		return release.Usage{}, false
	}
	u, ok := g.read(procRoot, time.Now())
	if !ok { // it was restarted, or is gone: the engine knows
		h.cgroups.Delete(id)
	}
	return u, ok
}

func (h *Host) engineUsage(ctx context.Context, id string) (release.Usage, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	stream, err := h.client.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return release.Usage{}, h.fault("sampling container", id, err)
	}
	defer stream.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(io.LimitReader(stream.Body, 4<<20)).Decode(&s); err != nil {
		return release.Usage{}, h.fault("sampling container", id, err)
	}
	return convertUsage(s), nil
}

// convertUsage reads the engine's statistics, whose fields are those of the
// cgroup version.
func convertUsage(s container.StatsResponse) release.Usage {
	m := s.MemoryStats
	u := release.Usage{
		Time: s.Read, Memory: number(m.Usage), Limit: number(m.Limit), HighWater: number(max(m.MaxUsage, m.Usage)),
		OOMKills: -1, FDs: -1, PIDs: number(s.PidsStats.Current), Tasks: number(s.PidsStats.Current),
		Periods: number(s.CPUStats.ThrottlingData.Periods), Throttled: number(s.CPUStats.ThrottlingData.ThrottledPeriods),
	}
	if limit := number(s.PidsStats.Limit); limit != math.MaxInt64 {
		u.TaskLimit = limit
	}
	stat := map[string]int64{}
	for name, value := range m.Stats {
		stat[name] = number(value)
	}
	names := memoryV2
	if _, v1 := stat["total_inactive_file"]; v1 {
		names = memoryV1
	}
	split(&u, u.Memory, stat[names.swap], stat, names) // without the fields all of it counts
	return u
}

// number bounds an unsigned number of the engine's; unlimited is the largest.
func number(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// totalMemory gives the bytes of memory of the engine's machine, asked once.
func (h *Host) totalMemory(ctx context.Context) (int64, error) {
	if total := h.memory.Load(); total > 0 {
		return total, nil
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return 0, h.fault("asking engine", h.Name(), err)
	}
	h.memory.Store(result.Info.MemTotal)
	return result.Info.MemTotal, nil
}
