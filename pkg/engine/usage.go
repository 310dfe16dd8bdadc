package engine

import (
	"context"
	"encoding/json"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// Usage samples a running container's resources once. Memory is the working
// set, as `docker stats` counts it: usage without inactive file pages, which
// the kernel gives back on demand. On an engine of this machine it is read from
// the kernel once the container's cgroup is known: engines publish no more than
// one sample a second, which is too few to tell a leak early.
func (h *Host) Usage(ctx context.Context, id string) (release.Usage, error) {
	if u, ok := h.localUsage(id); ok {
		return u, ctx.Err()
	}
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
	total, err := h.totalMemory(ctx)
	if err != nil {
		return release.Usage{}, err
	}
	u := release.Usage{
		Time:     s.Read,
		Memory:   workingSet(s.MemoryStats),
		Limit:    int64(s.MemoryStats.Limit),
		PIDs:     int64(s.PidsStats.Current),
		OOMKills: -1,
	}
	if u.Limit >= total { // what engines report where there is none
		u.Limit = 0
	}
	if h.local() {
		u.OOMKills = h.oomKills(ctx, id)
	}
	return u, nil
}

// totalMemory gives the bytes of memory of the engine's machine, asked once.
func (h *Host) totalMemory(ctx context.Context) (int64, error) {
	if total := h.memory.Load(); total > 0 {
		return total, nil
	}
	result, err := h.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return 0, h.fault("asking engine", h.Name(), err)
	}
	h.memory.Store(result.Info.MemTotal)
	return result.Info.MemTotal, nil
}

// workingSet takes the inactive file pages off; cgroup v1 counts those of
// children under total_inactive_file, v2 under inactive_file.
func workingSet(m container.MemoryStats) int64 {
	inactive, v1 := m.Stats["total_inactive_file"]
	if !v1 {
		inactive = m.Stats["inactive_file"]
	}
	if inactive > m.Usage {
		return int64(m.Usage)
	}
	return int64(m.Usage - inactive)
}
