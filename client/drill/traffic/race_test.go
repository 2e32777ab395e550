//go:build race

package traffic

// The race detector makes everything ten times slower: less is done under it.
const slowdown = 5
