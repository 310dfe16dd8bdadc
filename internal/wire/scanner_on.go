//go:build goexperiment.jsonv2

package wire

// hasScanner: this binary was built with what Trivy needs.
const hasScanner = true
