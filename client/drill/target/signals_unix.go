//go:build unix

package target

import (
	"os"
	"syscall"
)

// hasSignals tells whether processes can be stopped here without ending them.
const hasSignals = true

// The signals that a drill sends.
var (
	signalKill     os.Signal = syscall.SIGKILL // ends a process at once
	signalEnd      os.Signal = syscall.SIGTERM // asks it to end in order
	signalStop     os.Signal = syscall.SIGSTOP // stops it without ending it
	signalContinue os.Signal = syscall.SIGCONT // lets it go on
)
