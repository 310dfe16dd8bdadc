//go:build goexperiment.jsonv2

package scan

import (
	"fmt"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/aquasecurity/trivy/pkg/fanal/artifact"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/sbom/cyclonedx"
	"github.com/aquasecurity/trivy/pkg/types"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/findings"
)

// report is what was found, in our words.
type report struct {
	findings     []release.Finding
	purls        []string // of the findings, by index; empty where there is none
	distribution string
	platforms    []string
	packages     []findings.Held
	documents    []*cdx.BOM
}

func (r report) purl(i int) string { return r.purls[i] }

func (r *report) find(f release.Finding, purl string) {
	if i := slices.Index(r.findings, f); i >= 0 && r.purls[i] == purl {
		return // the same on another platform, or in a layer that occurs twice
	}
	r.findings = append(r.findings, f)
	r.purls = append(r.purls, purl)
}

// add takes over another platform's report.
func (r *report) add(o report) {
	for i, f := range o.findings {
		r.find(f, o.purls[i])
	}
	if r.distribution == "" {
		r.distribution = o.distribution
	}
	r.platforms = append(r.platforms, o.platforms...)
	r.packages = append(r.packages, o.packages...)
	r.documents = append(r.documents, o.documents...)
}

func (r report) held() []string {
	var list []string
	for _, h := range r.packages {
		list = append(list, fmt.Sprintf("%s: %d packages", h.Name, h.Packages))
	}
	if len(list) == 0 {
		return []string{"no packages"}
	}
	return list
}

// report translates Trivy's results for one image.
func (i *image) report(o Options, d database, cache *layers, ref artifact.Reference, result types.Report) (report, error) {
	r := report{findings: []release.Finding{}, platforms: []string{i.platform()}}
	for _, section := range result.Results {
		for _, v := range section.Vulnerabilities {
			r.find(vulnerabilityFinding(v, section))
		}
	}
	if err := r.secrets(i, cache, ref); err != nil {
		return r, err
	}
	r.coverage(result, d.info.Covers)
	document, err := bom(i, result)
	if err != nil {
		return r, err
	}
	r.documents = []*cdx.BOM{document}
	return r, nil
}

func vulnerabilityFinding(v types.DetectedVulnerability, section types.Result) (release.Finding, string) {
	path := v.PkgPath
	if path == "" && section.Class == types.ClassLangPkg && strings.Contains(section.Target, "/") {
		path = section.Target // a binary or a lock file
	}
	purl := ""
	if v.PkgIdentifier.PURL != nil {
		purl = v.PkgIdentifier.PURL.String()
	}
	return release.Finding{
		//lint:ignore SA1019 Trivy fills it in from the source it prefers; that choice is wanted
		ID: v.VulnerabilityID, Severity: severity(v.Severity), Package: v.PkgName, Version: v.InstalledVersion,
		FixedIn: v.FixedVersion, Path: path, Layer: v.Layer.Digest, Class: release.ClassVulnerability, Title: v.Title,
	}, purl
}

// severity writes Trivy's severities as we do.
func severity(s string) string {
	s = strings.ToLower(s)
	if _, ok := release.SeverityRank(s); !ok {
		return "unknown"
	}
	return s
}

// secrets takes the findings of every layer, not of the files that are left in
// the end: a key that a later layer deletes has been shipped. The secret itself
// never leaves Trivy's analysis.
func (r *report) secrets(i *image, cache *layers, ref artifact.Reference) error {
	for n, id := range ref.BlobIDs {
		blob, err := cache.GetBlob(i.source.ctx, id)
		if err != nil {
			return i.source.fault("scanning "+i.subject.String(), "run it again", fmt.Errorf("the analysis of layer %s is gone: %w", ref.ImageMetadata.DiffIDs[n], err))
		}
		for _, s := range blob.Secrets {
			r.secret(s, strings.TrimPrefix(s.FilePath, "/"), i.manifest.Layers[n].Digest.String())
		}
	}
	config, err := cache.GetArtifact(i.source.ctx, ref.ID)
	if err != nil {
		return i.source.fault("scanning "+i.subject.String(), "run it again", fmt.Errorf("the analysis of the configuration is gone: %w", err))
	}
	if config.Secret != nil {
		r.secret(*config.Secret, "(image configuration)", "")
	}
	return nil
}

func (r *report) secret(s ftypes.Secret, path, layer string) {
	for _, f := range s.Findings {
		r.find(release.Finding{
			ID: f.RuleID, Severity: severity(f.Severity), Path: path, Line: f.StartLine, Layer: layer,
			Class: release.ClassSecret, Title: f.Title,
		}, "")
	}
}

// coverage says what the database could not judge.
func (r *report) coverage(result types.Report, covers []string) {
	system := 0
	counts := map[string]int{}
	archives := 0
	for _, section := range result.Results {
		switch section.Class {
		case types.ClassOSPkg:
			system += len(section.Packages)
		case types.ClassLangPkg:
			counts[findings.Ecosystem(string(section.Type))] += len(section.Packages)
		case types.ClassCustom:
			for _, c := range section.CustomResources {
				if c.Type == javaArchives {
					archives++
				}
			}
		}
	}
	r.system(result.Metadata.OS, system)
	for name, n := range counts {
		if n > 0 {
			r.packages = append(r.packages, findings.Held{Name: name, Packages: n})
		}
	}
	slices.SortFunc(r.packages, func(a, b findings.Held) int { return strings.Compare(a.Name, b.Name) })
	for _, gap := range findings.Uncovered(r.packages, covers) {
		r.find(gap, "")
	}
	if archives > 0 {
		r.find(findings.Gap("java archives", fmt.Sprintf("%d Java archives are not opened: what is in them is not judged", archives)), "")
	}
}

// system says which distribution the image is and what could not be judged of
// it. Trivy drops the packages of what it does not know, without a word.
func (r *report) system(os *ftypes.OS, packages int) {
	if os == nil || !os.Detected() {
		return
	}
	if os.Family == "none" {
		r.find(findings.Gap("unknown distribution", "the image holds packages of a distribution, and not which one: they are not judged"), "")
		return
	}
	r.distribution = strings.TrimSpace(string(os.Family) + " " + os.Name)
	name := findings.Distribution(string(os.Family), os.Name)
	if packages == 0 {
		r.find(findings.Gap(name, fmt.Sprintf("no packages of %s could be judged: the image's package database is empty or gone, or the scanner does not know the distribution", name)), "")
	} else {
		r.packages = append(r.packages, findings.Held{Name: name, Packages: packages})
	}
	if os.Eosl {
		r.find(findings.Gap(name+" end of life", fmt.Sprintf("%s is past its end of life: new vulnerabilities of it are published nowhere", name)), "")
	}
}

// bom makes Trivy's CycloneDX document of everything it found.
func bom(i *image, result types.Report) (*cdx.BOM, error) {
	listed := result
	listed.Results = slices.Clone(result.Results)
	for n := range listed.Results {
		listed.Results[n].Vulnerabilities = nil
	}
	marshaler := cyclonedx.NewMarshaler(scannerVersion())
	document, err := marshaler.MarshalReport(i.source.ctx, listed)
	if err != nil {
		return nil, fmt.Errorf("making the SBOM: %w", err)
	}
	return document, nil
}
