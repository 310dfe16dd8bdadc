// Package envelope holds what signing and verifying need without any heavy
// library: DSSE envelopes and in-toto statements read strictly, the holders of
// a trust policy, and the one order in which an attestation is judged. The
// real verifier (package sign) and the fake one (package signtest) both judge
// with it, so that they cannot disagree about anything but cryptography.
package envelope
