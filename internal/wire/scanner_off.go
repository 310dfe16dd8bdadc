//go:build !goexperiment.jsonv2

package wire

// hasScanner: this binary was built without what Trivy needs; its scan says so.
const hasScanner = false
