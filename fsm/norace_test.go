//go:build !race

package fsm

const slowdown = 1
