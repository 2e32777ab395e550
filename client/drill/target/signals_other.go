//go:build !unix

package target

import "os"

const hasSignals = false

// Nothing sends these, because OpenDev refuses.
var signalKill, signalEnd, signalStop, signalContinue os.Signal = os.Kill, os.Kill, os.Kill, os.Kill
