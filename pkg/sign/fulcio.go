package sign

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"

	"github.com/sigstore/sigstore/pkg/oauthflow"

	"github.com/promote-dev/promote/pkg/release"
)

// fulcio is a certificate authority for identities.
// https://github.com/sigstore/fulcio/blob/main/docs/how-certificate-issuing-works.md
type fulcio struct{ service }

// certificate asks for a certificate, in DER, that binds the key to whom the
// token is about.
func (f fulcio) certificate(ctx context.Context, k *Key, t Token) ([]byte, error) {
	f.secrets = append(f.secrets, t.raw)
	challenge, err := oauthflow.SubjectFromUnverifiedToken(t.claims)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "get a token for a verified identity", "the identity token names nobody: its e-mail address is not verified, or it has no subject")
	}
	possession, _, err := k.sign(ctx, []byte(challenge))
	if err != nil {
		return nil, err
	}
	type publicKey struct {
		Algorithm string `json:"algorithm"`
		Content   string `json:"content"`
	}
	type request struct {
		PublicKey  publicKey `json:"publicKey"`
		Possession []byte    `json:"proofOfPossession"`
	}
	body, err := json.Marshal(struct {
		Request request `json:"publicKeyRequest"`
	}{request{publicKey{keypair{k}.GetKeyAlgorithm(), string(k.publicPEM)}, possession}})
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + t.raw}}
	_, _, text, err := f.call(ctx, http.MethodPost, "/api/v2/signingCert", header, body, http.StatusOK, http.StatusCreated)
	if err != nil {
		return nil, err
	}
	type chain struct {
		Chain struct {
			Certificates []string `json:"certificates"`
		} `json:"chain"`
	}
	var answer struct {
		Embedded chain `json:"signedCertificateEmbeddedSct"`
		Detached chain `json:"signedCertificateDetachedSct"`
	}
	if json.Unmarshal(text, &answer) == nil {
		for _, list := range [][]string{answer.Embedded.Chain.Certificates, answer.Detached.Chain.Certificates} {
			if len(list) == 0 {
				continue
			}
			if block, _ := pem.Decode([]byte(list[0])); block != nil && block.Type == "CERTIFICATE" {
				return block.Bytes, nil
			}
		}
	}
	return nil, release.Unavailable("check sign.keyless.fulcio", "%s answers with no certificate", f.name)
}
