package wire

import (
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/sign"
)

// memo remembers which certificates' signatures were found valid; checking a
// key's costs less than remembering it. The secret that authenticates what is
// remembered lies with the configuration, where no CI caches. Without a place
// for both nothing is remembered.
func memo(root *sign.Root) sign.Memo {
	cache, err := cacheDir("signatures")
	if root == nil || err != nil {
		return nil
	}
	settings, err := os.UserConfigDir()
	if err != nil {
		return nil
	}
	return sign.OpenMemo(filepath.Join(cache, "proofs"), filepath.Join(settings, "promote", "proofs.secret"))
}
