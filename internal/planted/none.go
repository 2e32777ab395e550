//go:build !planted

package planted

// Has tells whether this build has a bug. It has none.
func Has(Bug) bool { return false }
