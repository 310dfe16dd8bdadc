package enginetest_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

func TestFakeKeepsTheContract(t *testing.T) {
	for _, containerd := range []bool{false, true} {
		enginetest.Run(t, func(*testing.T) enginetest.Fixture {
			fake := enginetest.NewFake("fake")
			fake.Containerd = containerd
			subject := func(word string) release.Subject {
				return release.Subject{Repository: "registry.test/agent", Digest: release.DigestOf([]byte(word))}
			}
			facts := release.PlatformImage{Manifest: subject("a").Digest, Config: release.DigestOf([]byte("config"))}
			fake.Offer(subject("a"), facts)
			return enginetest.Fixture{Engine: fake, Image: subject("a"), Facts: facts, Absent: subject("b"), Prefix: "suite"}
		})
	}
}
