// Package sbom makes a CycloneDX document deterministic: the same image, read
// by the same scanner, gives the same bytes, so that a document can be compared
// and found again by its digest. It is apart from pkg/scan so that its tests
// need not link Trivy.
package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/promote-dev/promote/pkg/release"
)

// Deterministic encodes the documents of a subject's platforms as one. What is
// random or of the day goes: the serial number is derived from the subject,
// the timestamp is left out (the attestation that carries the document is
// dated), and references that are random become those of their content.
// Vulnerabilities are left out too: they are of a day, and have an attestation
// of their own.
func Deterministic(subject release.Subject, documents []*cdx.BOM) (json.RawMessage, error) {
	if len(documents) == 0 {
		return nil, fmt.Errorf("an SBOM of nothing")
	}
	bom := documents[0]
	settle(bom)
	for _, more := range documents[1:] {
		settle(more)
		join(bom, more)
	}
	bom.SerialNumber = "urn:uuid:" + uuid("serial", subject.Digest.String())
	bom.Vulnerabilities = nil
	if bom.Metadata != nil {
		bom.Metadata.Timestamp = ""
		if bom.Metadata.Component != nil {
			bom.Metadata.Component.Name = subject.String()
		}
	}
	order(bom)
	var b bytes.Buffer
	encoder := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(bom); err != nil {
		return nil, fmt.Errorf("encoding the SBOM: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// settle replaces random references by those of their component's content.
func settle(bom *cdx.BOM) {
	renamed := map[string]string{}
	taken := map[string]int{}
	rename := func(c *cdx.Component) {
		if !random(c.BOMRef) {
			return
		}
		ref := uuid(string(c.Type), c.Group, c.Name, c.Version, c.PackageURL, properties(c))
		// Two components that are the same to the last property keep their
		// order of appearance.
		taken[ref]++
		if n := taken[ref]; n > 1 {
			ref = uuid(ref, fmt.Sprint(n))
		}
		renamed[c.BOMRef] = ref
		c.BOMRef = ref
	}
	if bom.Metadata != nil && bom.Metadata.Component != nil {
		rename(bom.Metadata.Component)
	}
	if bom.Components != nil {
		slices.SortStableFunc(*bom.Components, compareContent)
		for i := range *bom.Components {
			rename(&(*bom.Components)[i])
		}
	}
	if bom.Dependencies == nil {
		return
	}
	for i := range *bom.Dependencies {
		d := &(*bom.Dependencies)[i]
		d.Ref = cmp.Or(renamed[d.Ref], d.Ref)
		if d.Dependencies == nil {
			continue
		}
		for j, ref := range *d.Dependencies {
			(*d.Dependencies)[j] = cmp.Or(renamed[ref], ref)
		}
	}
}

func compareContent(a, b cdx.Component) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Version, b.Version), cmp.Compare(a.PackageURL, b.PackageURL), cmp.Compare(properties(&a), properties(&b)))
}

func properties(c *cdx.Component) string {
	if c.Properties == nil {
		return ""
	}
	var list []string
	for _, p := range *c.Properties {
		list = append(list, p.Name+"="+p.Value)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// join adds what another platform's document has and this one has not. Both
// are about one subject, so they have one root.
func join(bom, more *cdx.BOM) {
	if root(bom) != "" && root(more) != "" {
		replace(more, root(more), root(bom))
	}
	if more.Components != nil {
		if bom.Components == nil {
			bom.Components = &[]cdx.Component{}
		}
		for _, c := range *more.Components {
			if !slices.ContainsFunc(*bom.Components, func(o cdx.Component) bool { return o.BOMRef == c.BOMRef }) {
				*bom.Components = append(*bom.Components, c)
			}
		}
	}
	if more.Dependencies == nil {
		return
	}
	if bom.Dependencies == nil {
		bom.Dependencies = &[]cdx.Dependency{}
	}
	for _, d := range *more.Dependencies {
		i := slices.IndexFunc(*bom.Dependencies, func(o cdx.Dependency) bool { return o.Ref == d.Ref })
		if i < 0 {
			*bom.Dependencies = append(*bom.Dependencies, d)
			continue
		}
		(*bom.Dependencies)[i].Dependencies = union((*bom.Dependencies)[i].Dependencies, d.Dependencies)
	}
}

func root(bom *cdx.BOM) string {
	if bom.Metadata == nil || bom.Metadata.Component == nil {
		return ""
	}
	return bom.Metadata.Component.BOMRef
}

func replace(bom *cdx.BOM, old, ref string) {
	if bom.Dependencies == nil {
		return
	}
	for i, d := range *bom.Dependencies {
		if d.Ref == old {
			(*bom.Dependencies)[i].Ref = ref
		}
	}
}

func union(a, b *[]string) *[]string {
	var all []string
	for _, list := range []*[]string{a, b} {
		if list != nil {
			all = append(all, *list...)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return &all
}

func order(bom *cdx.BOM) {
	if bom.Components != nil {
		slices.SortStableFunc(*bom.Components, func(a, b cdx.Component) int {
			return cmp.Or(compareContent(a, b), cmp.Compare(a.BOMRef, b.BOMRef))
		})
	}
	if bom.Dependencies == nil {
		return
	}
	for i := range *bom.Dependencies {
		if list := (*bom.Dependencies)[i].Dependencies; list != nil {
			slices.Sort(*list)
		}
	}
	slices.SortFunc(*bom.Dependencies, func(a, b cdx.Dependency) int { return cmp.Compare(a.Ref, b.Ref) })
}

// random reports whether a reference is a UUID.
func random(ref string) bool {
	if len(ref) != 36 {
		return false
	}
	for i, c := range []byte(ref) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}

// uuid gives a UUID of version 8 (RFC 9562): ours, made of what it names.
func uuid(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
