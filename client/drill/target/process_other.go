//go:build !linux

package target

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// lookTimeout bounds looking at one process.
const lookTimeout = 5 * time.Second

// commandOf returns the command line of a process, as ps tells it. Where a relative name in it starts from is not told: it is
// taken for the folder that this program runs in, so at worst a node is not recognised.
func commandOf(pid int) (command, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	line, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return command{}, err
	}
	return command{arguments: strings.Fields(string(line)), workingFolder: "."}, nil
}
