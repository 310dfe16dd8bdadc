//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
)

// Trivy reads Java archives only with a second database, of their hashes,
// which promote does not download. So that they are not passed over in
// silence, this analyzer lists them, and each is a gap in the coverage.
const javaArchives = "promote-java-archives"

func init() { analyzer.RegisterAnalyzer(archives{}) }

type archives struct{}

func (archives) Type() analyzer.Type { return javaArchives }
func (archives) Version() int        { return 1 }

func (archives) Required(path string, _ os.FileInfo) bool {
	return slices.Contains([]string{".jar", ".war", ".ear", ".par"}, strings.ToLower(filepath.Ext(path)))
}

func (archives) Analyze(_ context.Context, input analyzer.AnalysisInput) (*analyzer.AnalysisResult, error) {
	return &analyzer.AnalysisResult{CustomResources: []ftypes.CustomResource{{Type: javaArchives, FilePath: input.FilePath}}}, nil
}
