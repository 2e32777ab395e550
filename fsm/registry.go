package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"dems"

	"github.com/zeebo/xxh3"
)

// registry is what the central repository knows: where nodes and front ends are.
type registry struct {
	version   uint64         // index of its last change
	nodes     []registration // by ID
	frontEnds []registration // by ID
}

type registration struct {
	dems.Registration
	index uint64 // of its entry
}

// Registry returns the registered nodes and front ends, each in the order of their IDs, and the cities.
func (m *Machine) Registry() dems.Registry {
	return dems.Registry{
		Cities:    m.cities,
		Nodes:     registrations(m.registry.nodes),
		FrontEnds: registrations(m.registry.frontEnds),
	}
}

func registrations(list []registration) []dems.Registration {
	plain := make([]dems.Registration, len(list))
	for i := range list {
		plain[i] = list[i].Registration
	}
	return plain
}

// register registers a node or a front end, in place of what was registered under its ID, and opens the session of a
// front end. It returns why it was refused, or "".
func (m *Machine) register(kind dems.EntryKind, r *dems.Registration) string {
	if kind == dems.RegisterNodeEntry {
		if ours := m.cities.String(); r.Cities != ours {
			return fmt.Sprintf("the cities of %s are %q, those of the cluster %q", r.ID, r.Cities, ours)
		}
		if newest := m.newestIncarnation(r.ID); r.Incarnation < newest {
			return fmt.Sprintf("%s registers with incarnation %d, and incarnation %d is known already", r.ID, r.Incarnation, newest)
		}
		m.putRegistration(&m.registry.nodes, nodeSeed, r)
		return ""
	}
	if s := m.sessions.find(r.Session); s != nil && s.frontEnd != r.ID {
		return fmt.Sprintf("the session of %s belongs to %s; choose another one", r.ID, s.frontEnd)
	}
	m.putRegistration(&m.registry.frontEnds, frontEndSeed, r)
	m.openSession(r.Session, r.ID)
	return ""
}

// newestIncarnation returns the newest incarnation of a node that is registered or has a standing, 0 if there is none.
func (m *Machine) newestIncarnation(id string) uint64 {
	newest := uint64(0)
	if s := m.cluster.standing(dems.NodeID(id)); s != nil {
		newest = s.Incarnation
	}
	if at, found := searchRegistration(m.registry.nodes, id); found {
		newest = max(newest, m.registry.nodes[at].Incarnation)
	}
	return newest
}

// putRegistration puts a registration into its place in the list. If there are too many, the oldest gives way.
func (m *Machine) putRegistration(list *[]registration, seed uint64, r *dems.Registration) {
	m.registry.version = m.index
	added := registration{*r, m.index}
	at, found := searchRegistration(*list, r.ID)
	if !found && len(*list) >= m.limits.registrations {
		oldest := 0
		for i := range *list {
			if (*list)[i].index < (*list)[oldest].index {
				oldest = i
			}
		}
		m.common.remove((*list)[oldest].hash(seed))
		*list = slices.Delete(*list, oldest, oldest+1)
		at, _ = searchRegistration(*list, r.ID)
	}
	if found {
		m.common.remove((*list)[at].hash(seed))
		(*list)[at] = added
	} else {
		*list = slices.Insert(*list, at, added)
	}
	m.common.add(added.hash(seed))
}

func searchRegistration(list []registration, id string) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(r registration, id string) int { return cmp.Compare(r.ID, id) })
}

func (r *registration) hash(seed uint64) hash {
	return hashOf(seed, xxh3.HashSeed(dems.AppendRegistration(nil, &r.Registration), seed), r.index)
}

func (r *registry) recompute() sum {
	var total sum
	for i := range r.nodes {
		total.add(r.nodes[i].hash(nodeSeed))
	}
	for i := range r.frontEnds {
		total.add(r.frontEnds[i].hash(frontEndSeed))
	}
	return total
}

func (r *registry) copy() registry {
	return registry{version: r.version, nodes: slices.Clone(r.nodes), frontEnds: slices.Clone(r.frontEnds)}
}
