//go:build pkcs11key

package sign

const hardwareBuilt = true
