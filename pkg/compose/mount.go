package compose

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/promote-dev/promote/pkg/release"
)

// serviceMounts gives volumes, tmpfs, and the files of secrets and configs. A
// mount of the service's own wins over a secret or config at the same place,
// as with Compose.
func serviceMounts(p *types.Project, s types.ServiceConfig) ([]release.Mount, error) {
	var out []release.Mount
	taken := map[string]bool{}
	add := func(m release.Mount) {
		if !taken[m.Target] {
			taken[m.Target] = true
			out = append(out, m)
		}
	}
	for _, v := range s.Volumes {
		add(volumeMount(p, v))
	}
	for _, t := range s.Tmpfs {
		m, err := tmpfs(t)
		if err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", clip(t), err)
		}
		add(m)
	}
	for _, ref := range s.Secrets {
		add(fileMount("/run/secrets/", types.FileReferenceConfig(ref), p.Secrets[ref.Source].File))
	}
	for _, ref := range s.Configs {
		add(fileMount("/", types.FileReferenceConfig(ref), p.Configs[ref.Source].File))
	}
	for _, m := range out {
		if m.Type == "bind" && !path.IsAbs(m.Source) {
			return nil, fmt.Errorf("%s for %s is no absolute path", m.Source, m.Target)
		}
	}
	return out, nil
}

func volumeMount(p *types.Project, v types.ServiceVolumeConfig) release.Mount {
	m := release.Mount{Type: v.Type, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
	if v.Type == types.VolumeTypeVolume && v.Source != "" {
		m.Source = p.Volumes[v.Source].Name
	}
	if v.Volume != nil {
		m.NoCopy = v.Volume.NoCopy
	}
	if v.Tmpfs != nil {
		m.Size, m.Mode = int64(v.Tmpfs.Size), v.Tmpfs.Mode
	}
	return m
}

func fileMount(dir string, ref types.FileReferenceConfig, source string) release.Mount {
	target := ref.Target
	if target == "" {
		target = ref.Source
	}
	if !path.IsAbs(target) {
		target = dir + target
	}
	return release.Mount{Type: "bind", Source: source, Target: target, ReadOnly: true}
}

// tmpfs reads "/path:size=64m,mode=1777". The engine mounts every tmpfs with
// noexec, nosuid and nodev; options that only say so are taken, others refused.
func tmpfs(s string) (release.Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := release.Mount{Type: "tmpfs", Target: target}
	if !path.IsAbs(target) {
		return m, errors.New("want an absolute path")
	}
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "", "rw", "noexec", "nosuid", "nodev":
		case "ro":
			m.ReadOnly = true
		case "size":
			var size types.UnitBytes
			if err := size.DecodeMapstructure(value); err != nil {
				return m, fmt.Errorf("size %q: want a number with k, m or g", value)
			}
			m.Size = int64(size)
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 32)
			if err != nil {
				return m, fmt.Errorf("mode %q: want octal digits", value)
			}
			m.Mode = uint32(mode)
		default:
			return m, fmt.Errorf("option %q is not carried over", option)
		}
	}
	return m, nil
}
