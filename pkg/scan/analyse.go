//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	tdb "github.com/aquasecurity/trivy-db/pkg/db"
	dbtypes "github.com/aquasecurity/trivy-db/pkg/types"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/fanal/applier"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	artimage "github.com/aquasecurity/trivy/pkg/fanal/artifact/image"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	trivyscan "github.com/aquasecurity/trivy/pkg/scan"
	"github.com/aquasecurity/trivy/pkg/scan/langpkg"
	"github.com/aquasecurity/trivy/pkg/scan/local"
	"github.com/aquasecurity/trivy/pkg/scan/ospkg"
	"github.com/aquasecurity/trivy/pkg/types"
	"github.com/aquasecurity/trivy/pkg/vulnerability"

	"github.com/promote-dev/promote/pkg/event"
)

// analyse reads the subject's images and gives everything that was found.
func analyse(ctx context.Context, o Options, d database, step *event.Step) (report, error) {
	images, err := newSource(ctx, o, step).open(o.Subject, o.Platforms)
	if err != nil {
		return report{}, err
	}
	var all report
	for _, img := range images {
		one, err := img.analyse(o, d)
		if err != nil {
			return report{}, err
		}
		all.add(one)
		step.Logf("%s: %s", img.platform(), one.describe())
	}
	return all, nil
}

// analyse runs Trivy over one image.
func (i *image) analyse(o Options, d database) (report, error) {
	fail := func(err error) error {
		if bad := i.contradiction(); bad != nil {
			return bad
		}
		return i.source.fault("scanning "+i.subject.String(), "run it again; if it goes on, the image holds something that the scanner cannot read", err)
	}
	rules, err := secretRules(o.CacheDir)
	if err != nil {
		return report{}, err
	}
	cache := newLayers(filepath.Join(o.CacheDir, "layers"), i)
	art, err := artimage.NewArtifact(i, cache, artifact.Option{
		DisabledAnalyzers: disabled(),
		Parallel:          max(2, runtime.NumCPU()),
		NoProgress:        true,
		Offline:           true,
		FileChecksum:      true,
		SecretScannerOption: analyzer.SecretScannerOption{
			ConfigPath: rules,
		},
	})
	if err != nil {
		return report{}, fail(err)
	}
	inspected := &inspected{Artifact: art}
	backend := local.NewService(applier.NewApplier(cache), ospkg.NewScanner(), langpkg.NewScanner(), vulnerability.NewClient(tdb.Config{}))
	result, err := trivyscan.NewService(backend, inspected).ScanArtifact(i.source.ctx, types.ScanOptions{
		PkgTypes:            types.PkgTypes,
		PkgRelationships:    ftypes.Relationships,
		Scanners:            types.Scanners{types.VulnerabilityScanner, types.SecretScanner},
		ImageConfigScanners: types.Scanners{types.SecretScanner},
		VulnSeveritySources: []dbtypes.SourceID{"auto"},
	})
	if err == nil {
		err = i.readTwins()
	}
	if err = errors.Join(err, i.contradiction()); err != nil {
		return report{}, fail(err)
	}
	return i.report(o, d, cache, inspected.reference, result)
}

// inspected keeps what an artifact's inspection gave: the keys of its layers.
type inspected struct {
	artifact.Artifact
	reference artifact.Reference
}

func (i *inspected) Inspect(ctx context.Context) (artifact.Reference, error) {
	var err error
	i.reference, err = i.Artifact.Inspect(ctx)
	return i.reference, err
}

// disabled lists the analyzers that are not for images, or not for us: lock
// files describe what somebody meant to install; Java archives need another
// database and are listed by archives; the rest would ask the network.
func disabled() []analyzer.Type {
	return slices.Concat(analyzer.TypeLockfiles, analyzer.TypeConfigFiles, []analyzer.Type{
		analyzer.TypeApkCommand, analyzer.TypeLicenseFile, analyzer.TypeHistoryDockerfile,
		analyzer.TypeExecutable, analyzer.TypeRpmArchive, analyzer.TypeJar,
	})
}

func (r report) describe() string {
	return fmt.Sprintf("%s, %d findings", strings.Join(r.held(), ", "), len(r.findings))
}
