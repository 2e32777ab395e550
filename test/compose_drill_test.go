//go:build linux

package test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"dems/client/drill/report"
)

// TestComposeDrill has demsctl drill break a cluster in containers.
func TestComposeDrill(t *testing.T) {
	c := newComposeCluster(t)
	at := slices.Index(c.environment, "DEMSD_ENABLE_FAULTS=false")
	c.environment[at] = "DEMSD_ENABLE_FAULTS=true"
	t.Cleanup(c.remove)
	c.run("make", "image")
	c.up()
	c.waitEqual(readyDeadline)
	for _, test := range []struct {
		scenario string
		rounds   int
	}{{"leader-kill", scale(2, 20)}, {"partition", 5}, {"wrong-results", 2}} {
		t.Run(test.scenario, func(t *testing.T) {
			within := *c
			within.t, within.cluster.t = t, t
			within.drill(test.scenario, test.rounds)
		})
	}
	c.waitEqual(readyDeadline)
}

// drill runs a drill that has to pass.
func (c *composeCluster) drill(scenario string, rounds int) {
	c.t.Helper()
	output := c.run(demsctl(), "drill", scenario, "--compose", c.project, "--endpoint", c.url, "--rounds", strconv.Itoa(rounds),
		"--keep", filepath.Join(c.dataDir, scenario), "-o", "json")
	var r report.Report
	if err := json.Unmarshal([]byte(output), &r); err != nil {
		c.t.Fatalf("%v: %s", err, output)
	}
	if !r.Passed || len(r.Rounds) != rounds || r.Operations.Acknowledged == 0 || r.Operations.Failed+r.Operations.Unknown != 0 {
		c.t.Errorf("%s", output)
	}
	if r.Histories.Checked == 0 || r.Histories.Undecided+r.Histories.NotLinearizable != 0 {
		c.t.Errorf("%+v", r.Histories)
	}
	total := r.Total()
	c.t.Logf("%s, %d rounds in %.0f s: %d operations, %d histories; %+v", scenario, rounds, r.Seconds, r.Operations.Tried, r.Histories.Checked, total)
}
