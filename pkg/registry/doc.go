// Package registry reads references once, reads manifests that it hashed
// itself, copies images by digest, and lists and attaches what refers to them.
// It is the only home of go-containerregistry, of which it uses the parsing of
// names and the exchange of tokens; every byte that decides anything is
// fetched, bounded and hashed here, because that library believes a
// Docker-Content-Digest or Content-Type header in places where the bytes say
// otherwise.
//
// # How it works
//
//  1. Resolve turns a reference into a release.Subject. It is the only place
//     that reads a tag; from then on there are digests only.
//  2. A manifest is read with a limit, hashed, compared with the digest that
//     was asked for, and only then parsed: strictly, so that no two parsers
//     can read it differently (parse.go).
//  3. Bytes that contradict a digest or a limit are a denial
//     (release.KindDenied, naming both digests). Silence and breakage are
//     release.KindUnavailable. An absent object is ErrNotFound. These are
//     three answers, and none of them is a pass.
//  4. Each attempt of a request has a deadline for the answer's header and a
//     least rate for its body (watch.go). Broken connections, 429 and 5xx are
//     tried again a bounded number of times, waiting as Retry-After says
//     (retry.go); slowness is not.
//  5. A first request carries no credential. They are looked up when the
//     registry asks for them, and go to that registry and to a token server of
//     the same owner only, never along a redirect (auth.go).
//  6. Registries, image layouts and archives stand behind one interface
//     (store.go), so that Copy knows none of them.
//  7. Copy asks the destination first: when it already serves the bytes, that
//     is the only request. Otherwise: blobs (mounted where source and
//     destination are one registry, else streamed through a hash that
//     withholds the last byte until it fits), children, the manifest, what
//     refers to it, and the tags last. Everything written is read back.
//  8. Referrers are listed with the OCI 1.1 API, or from the fallback tag
//     sha256-<hex> where a registry has none; its index is changed by whoever
//     attaches, who looks again afterwards. Cosign's tags sha256-<hex>.sig, .att
//     and .sbom are read and copied, too; to the first one signatures are added.
//  9. A copy with evidence looks for it while it looks for everything else
//     (evidence.go): about each manifest, and about what is found so. All of it
//     is judged before the destination gets its first manifest.
//  10. How a host is spoken to (plain HTTP, its own CA, mirrors) is said by the
//     caller and by certs.d (hosts.go, certs.go). Where a registry sends us is
//     reached over connections of their own, whose dialler judges the address
//     (lanes.go). What has a digest may come from a mirror, whose every failure
//     is a miss (mirror.go).
//
// Written against the OCI distribution specification 1.1 and image
// specification 1.1.
package registry
