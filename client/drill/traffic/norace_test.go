//go:build !race

package traffic

const slowdown = 1
