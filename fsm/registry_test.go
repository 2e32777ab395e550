package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dems"
)

func (h *harness) registerNode(r dems.Registration) string {
	h.t.Helper()
	return h.apply(dems.Entry{Kind: dems.RegisterNodeEntry, Registration: r}).Refused
}

func node(id string, incarnation uint64) dems.Registration {
	return dems.Registration{ID: id, Address: "127.0.0.1:7001", Version: "v1", Time: testTime, Incarnation: incarnation,
		Cities: dems.DefaultCities().String()}
}

func ids(list []dems.Registration) string {
	var names []string
	for _, r := range list {
		names = append(names, r.ID)
	}
	return strings.Join(names, " ")
}

func TestRegistry(t *testing.T) {
	h := newHarness(t)
	for _, id := range []string{"n3", "n1", "n2"} {
		if refused := h.registerNode(node(id, 1)); refused != "" {
			t.Fatal(refused)
		}
	}
	moved := node("n2", 2)
	moved.Address = "127.0.0.1:7009"
	h.registerNode(moved)
	h.registerFrontEnd("fe0", 99)
	registry := h.machine.Registry()
	if ids(registry.Nodes) != "n1 n2 n3" || ids(registry.FrontEnds) != "fe0 fe1" {
		t.Errorf("nodes %s, front ends %s", ids(registry.Nodes), ids(registry.FrontEnds))
	}
	if registry.Nodes[1] != moved {
		t.Errorf("%+v", registry.Nodes[1])
	}
	answer := h.machine.Query(&dems.Query{Kind: dems.RegistryQuery})
	decoded, err := dems.DecodeRegistry(answer.Result)
	if err != nil || answer.Version != h.index || !slices.Equal(decoded.Nodes, registry.Nodes) {
		t.Errorf("version %d, %v", answer.Version, err)
	}
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 1))
	if again := h.machine.Query(&dems.Query{Kind: dems.RegistryQuery}); again.Version != answer.Version {
		t.Errorf("version %d after an operation", again.Version)
	}
	if restored := restoredFrom(t, h.machine); ids(restored.Registry().Nodes) != "n1 n2 n3" {
		t.Error("not restored")
	}
}

func TestNodeWithOtherCitiesIsRefused(t *testing.T) {
	h := newHarness(t)
	for _, cities := range []string{"", "TOR=Toronto", "MTL=Montreal,OTW=Ottawa,TOR=Toronto,VAN=Vancouver", "MTL=Montréal,OTW=Ottawa,TOR=Toronto"} {
		other := node("n1", 1)
		other.Cities = cities
		if refused := h.registerNode(other); !strings.Contains(refused, "cities") {
			t.Errorf("%q: refused with %q", cities, refused)
		}
	}
	if registry := h.machine.Registry(); len(registry.Nodes) != 0 {
		t.Error("registered")
	}
}

func TestOldestRegistrationGivesWay(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.registrations = 3
	for i := range 3 {
		h.registerNode(node(fmt.Sprintf("n%d", i), 1))
	}
	h.registerNode(node("n0", 2)) // makes n1 the oldest
	h.registerNode(node("a", 1))
	if nodes := ids(h.machine.Registry().Nodes); nodes != "a n0 n2" {
		t.Error(nodes)
	}
}
