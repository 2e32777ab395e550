package node

import (
	"slices"
	"testing"

	"dems"
	"dems/transport"
)

func TestWhoMayProposeWhat(t *testing.T) {
	entries := map[string]dems.Entry{
		"batch":             {Kind: dems.BatchEntry},
		"own node":          {Kind: dems.RegisterNodeEntry, Registration: dems.Registration{ID: "x1"}},
		"other node":        {Kind: dems.RegisterNodeEntry, Registration: dems.Registration{ID: "x2"}},
		"own front end":     {Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "x1"}},
		"other front end":   {Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "x2"}},
		"nameless":          {Kind: dems.RegisterFrontEndEntry},
		"own verdict":       {Kind: dems.VerdictEntry, Verdict: dems.Verdict{By: "x1", Node: "x2"}},
		"other verdict":     {Kind: dems.VerdictEntry, Verdict: dems.Verdict{By: "x2", Node: "x1"}},
		"incident":          {Kind: dems.IncidentEntry, Incident: dems.Incident{By: "x2"}},
		"replacement":       {Kind: dems.ReplacementEntry, Replacement: dems.Replacement{Node: "x2"}},
		"of a later kind":   {Kind: 200},
		"of no kind at all": {},
	}
	for _, test := range []struct {
		how  string
		may  func(transport.Role, string, *dems.Entry) bool
		role transport.Role
		name string
		what []string
	}{
		{"propose", mayPropose, transport.RoleFrontEnd, "x1", []string{"batch", "own front end"}},
		{"propose", mayPropose, transport.RoleNode, "x1", []string{"own node", "own verdict", "incident", "replacement"}},
		{"propose", mayPropose, "", "", nil}, // whoever it is
		{"forward", mayForward, transport.RoleFrontEnd, "x1", []string{"batch", "own front end"}},
		{"forward", mayForward, transport.RoleNode, "x1", []string{"batch", "own front end", "other front end", "nameless"}},
		{"forward", mayForward, "", "", nil},
	} {
		for name, entry := range entries {
			if got := test.may(test.role, test.name, &entry); got != slices.Contains(test.what, name) {
				t.Errorf("%s %s, %s %s: %v", test.role, test.name, test.how, name, got)
			}
		}
	}
}
