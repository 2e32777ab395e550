//go:build planted

package planted

import (
	"fmt"
	"os"
	"slices"
)

// bug is the name of the bug that this build has, "" for none. The linker sets it.
var bug string

func init() {
	switch {
	case bug == "":
	case slices.Contains(Bugs(), Bug(bug)):
		fmt.Fprintf(os.Stderr, "This program has a bug on purpose: %s. Never use it where data matters.\n", bug)
	default:
		panic(fmt.Sprintf("the program was linked with the bug %q; there are %v", bug, Bugs()))
	}
}

// Has tells whether this build has a bug.
func Has(which Bug) bool { return bug == string(which) }

// Plant gives this build a bug in place of any other, for a test, and returns what takes it away again. Nothing may run that
// asks for bugs.
func Plant(which Bug) (remove func()) {
	before := bug
	bug = string(which)
	return func() { bug = before }
}
