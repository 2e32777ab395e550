//go:build !planted

package planted_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dems/internal/planted"
)

func TestAnOrdinaryBuildHasNoBug(t *testing.T) {
	for _, bug := range planted.Bugs() {
		if planted.Has(bug) {
			t.Error(bug)
		}
	}
}

// TestNothingIsPlanted looks into a program as it ships: it holds neither the names of the bugs nor code of the package.
func TestNothingIsPlanted(t *testing.T) {
	program := filepath.Join(t.TempDir(), "demsd")
	if output, err := exec.Command("go", "build", "-trimpath", "-o", program, "dems/cmd/demsd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("no_majority")) {
		t.Fatal("what a program certainly holds is not found in it: the test looks in vain")
	}
	for _, bug := range planted.Bugs() {
		if bytes.Contains(data, []byte(bug)) {
			t.Errorf("the program knows of %s", bug)
		}
	}
	if bytes.Contains(data, []byte("internal/planted.")) {
		t.Error("the program has code of the package")
	}
}
