// Package structure holds the rules of the source tree as tests: who may import whom, how long files and functions may
// be, and what every package has to have. It owns no code that anything else uses and starts no goroutine.
package structure
