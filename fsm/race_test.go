//go:build race

package fsm

// The race detector makes everything ten times slower; the random tests do less under it.
const slowdown = 5
