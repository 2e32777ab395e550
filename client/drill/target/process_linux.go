package target

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// commandOf returns the command line of a process. That of a process that has ended is empty.
func commandOf(pid int) (command, error) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	line, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	if err != nil {
		return command{}, err
	}
	working, err := os.Readlink(filepath.Join(folder, "cwd"))
	if err != nil {
		return command{}, err
	}
	return command{arguments: strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"), workingFolder: working}, nil
}
