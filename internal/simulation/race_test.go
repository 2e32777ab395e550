//go:build race

package simulation

// The race detector makes everything ten times slower, and there is one goroutine: fewer seeds are played under it.
const slowdown = 5
