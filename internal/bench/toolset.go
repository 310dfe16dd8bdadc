package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Toolset has all contestants.
type Toolset struct {
	programs     Programs
	ours, theirs *Worker
	// Configuration files of regctl, which has no flags for these things.
	regctlDefault, regctlTuned string
	skopeoParallel             bool   // has --image-parallel-copies
	cache                      string // of our command, over all its runs
	versions                   map[string]string
}

// NewToolset readies them to copy between a world's registries. ours is a
// program, with its arguments, that works as a worker with our library.
func NewToolset(ctx context.Context, p Programs, w *World, dir string, ours ...string) (*Toolset, error) {
	s := &Toolset{programs: p, regctlDefault: filepath.Join(dir, "regctl-default.json"), regctlTuned: filepath.Join(dir, "regctl-tuned.json"), cache: filepath.Join(dir, "cache")}
	if err := s.readVersions(ctx); err != nil {
		return nil, err
	}
	for _, r := range []*Registry{w.Source, w.Destination} {
		for file, flags := range map[string][]string{s.regctlDefault: nil, s.regctlTuned: {"--req-concurrent", "16"}} {
			cmd := exec.CommandContext(ctx, p.Regctl, append([]string{"registry", "set", r.Addr(), "--skip-check", "--tls", "disabled"}, flags...)...)
			cmd.Env = append(os.Environ(), "REGCTL_CONFIG="+file)
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("configuring regctl: %w: %s", err, tail(string(out)))
			}
		}
	}
	help, err := exec.CommandContext(ctx, p.Skopeo, "copy", "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("skopeo copy --help: %w", err)
	}
	s.skopeoParallel = strings.Contains(string(help), "--image-parallel-copies")
	if s.ours, err = StartWorker(ours[0], ours[1:]...); err != nil {
		return nil, err
	}
	if s.theirs, err = StartWorker(p.Peers); err != nil {
		return nil, errors.Join(err, s.ours.Close())
	}
	return s, nil
}

// Close ends the workers.
func (s *Toolset) Close() error { return errors.Join(s.ours.Close(), s.theirs.Close()) }

func (s *Toolset) readVersions(ctx context.Context) error {
	s.versions = map[string]string{"promote": "this checkout"}
	for tool, from := range map[string][2]string{
		"crane":     {s.programs.Crane, "github.com/google/go-containerregistry"},
		"regctl":    {s.programs.Regctl, "github.com/regclient/regclient"},
		"regclient": {s.programs.Peers, "github.com/regclient/regclient"},
		"ggcr":      {s.programs.Peers, "github.com/google/go-containerregistry"},
		"cosign":    {s.programs.Cosign, cosignModule},
	} {
		if from[0] == "" {
			continue
		}
		v, err := version(from[0], from[1])
		if err != nil {
			return err
		}
		s.versions[tool] = v
	}
	out, err := exec.CommandContext(ctx, s.programs.Skopeo, "--version").Output()
	if err != nil {
		return fmt.Errorf("skopeo --version: %w", err)
	}
	s.versions["skopeo"] = strings.TrimSpace(strings.TrimPrefix(string(out), "skopeo version "))
	return nil
}

// For gives the tools that take part in a case.
func (s *Toolset) For(c Case) ([]*Tool, error) {
	switch c.Tools {
	case evidence:
		return append(s.withEvidence(s.regctl(Default, "--referrers"), s.regctl(Tuned, "--referrers")), s.libraries(true)...), nil
	case tags:
		if s.programs.Cosign == "" {
			return nil, errors.New("cosign was not built")
		}
		cosign := s.command("cosign", Default, s.programs.Cosign, []string{"copy", "--allow-http-registry", "SRC", "DST"})
		return s.withEvidence(cosign, s.regctl(Default, "--digest-tags"), s.regctl(Tuned, "--digest-tags")), nil
	case resilient:
		return s.alone(true), nil
	}
	return append(s.alone(false), s.libraries(false)...), nil
}

func (s *Toolset) command(name, tuning, program string, args []string, env ...string) *Tool {
	return Command(Tool{Name: name, Tuning: tuning, Version: s.versions[name]}, program, args, env)
}

func (s *Toolset) promote(flags ...string) *Tool {
	t := Command(Tool{Name: "promote", Tuning: Default, Ours: true, Version: s.versions["promote"]},
		s.programs.Promote, append(append([]string{"copy"}, flags...), "SRC", "DST"), []string{"XDG_CACHE_HOME=" + s.cache})
	t.How = strings.ReplaceAll(t.How, filepath.Dir(s.cache)+string(filepath.Separator), "")
	return t
}

func (s *Toolset) crane(tuning string, flags ...string) *Tool {
	return s.command("crane", tuning, s.programs.Crane, append(append([]string{"copy"}, flags...), "SRC", "DST"))
}

func (s *Toolset) regctl(tuning string, flags ...string) *Tool {
	config := s.regctlDefault
	if tuning == Tuned {
		config = s.regctlTuned
	}
	t := s.command("regctl", tuning, s.programs.Regctl, append(append([]string{"image", "copy"}, flags...), "SRC", "DST"), "REGCTL_CONFIG="+config)
	t.How = strings.ReplaceAll(t.How, filepath.Dir(config)+string(filepath.Separator), "")
	return t
}

// skopeo gets an empty memory of which registry has which blob: with a full one
// it would mount what an earlier run had brought.
func (s *Toolset) skopeo(tuning string, flags ...string) *Tool {
	args := append([]string{"copy", "--src-tls-verify=false", "--dest-tls-verify=false"}, flags...)
	return s.command("skopeo", tuning, s.programs.Skopeo, append(args, "docker://SRC", "docker://DST"), "XDG_DATA_HOME=HOME", "_CONTAINERS_ROOTLESS_UID=65534")
}

// alone are the commands that copy an image without what is attached to it.
func (s *Toolset) alone(faulty bool) []*Tool {
	list := []*Tool{s.promote("--referrers=false"), s.crane(Default)}
	if !faulty {
		list = append(list, s.crane(Tuned, "--jobs", "16"))
	}
	list = append(list, s.regctl(Default))
	if !faulty {
		list = append(list, s.regctl(Tuned, "--fast"))
	}
	list = append(list, s.skopeo(Default))
	switch {
	case faulty:
		list = append(list, s.skopeo(Tuned, "--retry-times", "3"))
	case s.skopeoParallel:
		list = append(list, s.skopeo(Tuned, "--image-parallel-copies", "16"))
	}
	return list
}

// withEvidence are those, and others, that copy signatures and SBOM along; crane
// and skopeo, which can't, show what the image alone costs. copying are the
// peers that can.
func (s *Toolset) withEvidence(copying ...*Tool) []*Tool {
	list := append([]*Tool{s.promote()}, copying...)
	for _, t := range list {
		t.Evidence = true
	}
	return append(list, s.crane(Default), s.crane(Tuned, "--jobs", "16"), s.skopeo(Default))
}

func (s *Toolset) libraries(withEvidence bool) []*Tool {
	ours := Tool{Name: "pkg/registry", Tuning: Default, Ours: true, Version: s.versions["promote"], How: "registry.New, Client.Transfer", Evidence: withEvidence}
	ggcr := Tool{Name: "crane.Copy", Tuning: Default, Version: s.versions["ggcr"], How: "crane.Copy"}
	regclient := Tool{Name: "regclient", Tuning: Default, Version: s.versions["regclient"], How: "regclient.New, ImageCopy", Evidence: withEvidence}
	list := []*Tool{s.ours.Library(ours, Order{Library: "promote", Evidence: withEvidence})}
	for _, jobs := range []int{0, 16} {
		if jobs > 0 {
			ggcr.Tuning, ggcr.How = Tuned, "crane.Copy, WithJobs(16)"
			regclient.Tuning, regclient.How = Tuned, "regclient.New with ReqConcurrent 16, ImageCopy"
		}
		list = append(list, s.theirs.Library(ggcr, Order{Library: "crane", Jobs: jobs}),
			s.theirs.Library(regclient, Order{Library: "regclient", Jobs: jobs, Evidence: withEvidence}))
	}
	return list
}
