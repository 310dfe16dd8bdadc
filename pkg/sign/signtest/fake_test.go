package signtest_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

func TestContract(t *testing.T) {
	signtest.Run(t, signtest.Implementation{
		NewKey:      func(_ *testing.T, name string) signtest.Signer { return signtest.NewKey(name) },
		NewVerifier: func(trust release.Trust) (signtest.Judge, error) { return signtest.NewVerifier(trust) },
	})
}
