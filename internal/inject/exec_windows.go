package inject

import (
	"context"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Exec runs the command argv with the environment env (from ChildEnv) and waits
// for it: Windows cannot replace a process. It returns nil when the child ended
// with 0, an *ExitError with its status otherwise, and a *NotFoundError or a
// *NotExecutableError when it did not start.
//
// The child shares the console, so Ctrl-C and Ctrl-Break reach it directly and
// are ignored here meanwhile. Both stand in a job object: when this process is
// killed, the child ends too. Nothing is started from the working directory
// unless argv[0] says so.
func Exec(argv, env []string) error {
	code, err := Run(context.Background(), Child{Argv: argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}) //nolint:forbidigo // the child's streams are this process's, as after an exec
	if err == nil && code != 0 {
		err = &ExitError{code}
	}
	return err
}

// joinJob puts this process, and so every child it starts from here on, into a
// job that ends with it. release lets what the child left running live on.
// Where a job cannot be had (a service that forbids nesting) it does nothing.
func joinJob() (release func()) {
	none := func() {}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return none
	}
	limit := func(flags uint32) error {
		info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
			BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: flags},
		}
		_, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
			uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))) //nolint:gosec // the call's own way to take a structure
		return err
	}
	if windows.AssignProcessToJobObject(job, windows.CurrentProcess()) != nil ||
		limit(windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE|windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK) != nil {
		_ = windows.CloseHandle(job)
		return none
	}
	return func() {
		if limit(0) == nil {
			_ = windows.CloseHandle(job)
		}
	}
}
