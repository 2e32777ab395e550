package main

import (
	"os"
	"path/filepath"
	"time"
)

const (
	// failpointsVariable names the folder that tests stop a node by; only nodes that are started with --enable-faults look.
	failpointsVariable = "DEMSD_FAILPOINTS"
	// failpointTimeout bounds how long a step is held up.
	failpointTimeout = 10 * time.Second
	// failpointInterval is how often a held up step looks whether it may go on.
	failpointInterval = time.Millisecond
)

// failpoint returns what stops a node at a step of a replacement: where the folder has a file of the step's name, the node
// writes that it is there, into STEP.reached-ID, and waits until the step's file is gone, or is killed meanwhile.
func failpoint(dir, id string) func(step string) {
	if dir == "" {
		return nil
	}
	return func(step string) {
		file := filepath.Join(dir, step)
		if _, err := os.Stat(file); err != nil {
			return
		}
		if err := os.WriteFile(file+".reached-"+id, nil, 0o644); err != nil {
			return // the test that waits for it fails
		}
		for deadline := time.Now().Add(failpointTimeout); time.Now().Before(deadline); time.Sleep(failpointInterval) {
			if _, err := os.Stat(file); err != nil {
				return
			}
		}
	}
}
