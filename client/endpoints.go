package client

import (
	"slices"
	"sync"
)

// maxLearned is how many front ends are remembered from the registry.
const maxLearned = 16

// endpoints is where front ends are, and which one answered last.
type endpoints struct {
	given []string

	mu        sync.Mutex
	learned   []string // last seen in the registry, those given left out
	preferred string   // where the next operation asks first; "" is the first
}

// newEndpoints takes endpoints that normalEndpoint accepts; one that stands twice counts once.
func newEndpoints(given []string) *endpoints {
	e := &endpoints{}
	for _, endpoint := range given {
		if normal, err := normalEndpoint(endpoint); err == nil && !slices.Contains(e.given, normal) {
			e.given = append(e.given, normal)
		}
	}
	return e
}

// round returns every endpoint in the order in which one operation tries them: the preferred one and those after it,
// round and round. Learned ones stand after those given.
func (e *endpoints) round() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := append(append(make([]string, 0, len(e.given)+len(e.learned)), e.given...), e.learned...)
	for i, endpoint := range all {
		if endpoint == e.preferred {
			return append(append(make([]string, 0, len(all)), all[i:]...), all[:i]...)
		}
	}
	return all
}

// answered makes an endpoint the one that is asked first.
func (e *endpoints) answered(endpoint string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.preferred = endpoint
}

// learn replaces what was seen in the registry.
func (e *endpoints) learn(addresses []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.learned = nil
	for _, address := range addresses {
		normal, err := normalEndpoint(address)
		if err == nil && len(e.learned) < maxLearned && !slices.Contains(e.given, normal) && !slices.Contains(e.learned, normal) {
			e.learned = append(e.learned, normal)
		}
	}
}
