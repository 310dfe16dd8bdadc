// Package sign makes keys, signs statements, and verifies attestations against
// a trust policy. It is the only home of cosign and sigstore-go.
//
// Keys are cosign's encrypted private keys, attestations are in-toto statements
// in DSSE envelopes in sigstore bundles v0.3, so that stock cosign verifies
// what is signed here, and the other way round; docs/verify-with-stock-tools.md
// has the commands. Signing with a local key touches no network.
//
// How an attestation is judged, and in which order, stands in
// internal/envelope, which the fake of package signtest shares.
package sign
