//go:build planted

package planted_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"dems/internal/planted"
)

// found returns the bugs that this build has.
func found() []planted.Bug {
	return slices.DeleteFunc(planted.Bugs(), func(bug planted.Bug) bool { return !planted.Has(bug) })
}

func TestABuildHasTheBugThatIsPlanted(t *testing.T) {
	before := found()
	for _, bug := range planted.Bugs() {
		remove := planted.Plant(bug)
		if got := found(); !slices.Equal(got, []planted.Bug{bug}) {
			t.Errorf("planted %s, found %v", bug, got)
		}
		remove()
	}
	if after := found(); !slices.Equal(before, after) {
		t.Errorf("%v before and %v after", before, after)
	}
}

// TestTheLinkerPlants runs this test's own program, linked with each bug: it says what it has. A name that is none ends it.
func TestTheLinkerPlants(t *testing.T) {
	if os.Getenv("DEMS_FOUND") != "" {
		t.Logf("found %v", found())
		return
	}
	for _, bug := range append(planted.Bugs(), "no-such-bug") {
		command := exec.Command("go", "test", "-count=1", "-v", "-tags", "planted", "-run", "^TestTheLinkerPlants$",
			"-ldflags", "-X dems/internal/planted.bug="+string(bug), ".")
		command.Env = append(os.Environ(), "DEMS_FOUND=yes")
		output, err := command.CombinedOutput()
		want := "found [" + string(bug) + "]"
		if bug == "no-such-bug" {
			want = `linked with the bug "no-such-bug"`
		}
		if (err == nil) != (bug != "no-such-bug") || !strings.Contains(string(output), want) {
			t.Errorf("%s: %v\n%s", bug, err, output)
		}
	}
}
