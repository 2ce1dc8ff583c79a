//go:build !windows

package inject

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Exec replaces this process by the command argv with the environment env (from
// ChildEnv), so that signals, the exit status, the terminal and standard input
// and output are the command's own from then on. It returns only
// when that fails, with a *NotFoundError or a *NotExecutableError.
//
// A name without a slash is looked up in the PATH of env. Relative and empty
// entries of PATH are passed over: nothing runs from the working directory
// unless argv[0] says so. A script without an interpreter line is run
// by /bin/sh, as a shell would do. Descriptors that the caller handed down
// stay open; our own are all close-on-exec.
//
// A signal that this process has caught and not acted upon is lost: look at
// the context before the call.
func Exec(argv, env []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return &NotFoundError{Command: ""}
	}
	path, err := lookup(argv[0], env)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, argv, env)
	if errors.Is(err, syscall.ENOEXEC) {
		var sh []string
		if sh, err = script(path, argv); err == nil {
			err = syscall.Exec(shell, sh, env)
		}
	}
	return notStarted(argv[0], path, err)
}

// shell runs the scripts that do not say what runs them.
const shell = "/bin/sh"

// script returns the arguments with which shell runs the file at path, or why it
// is no script.
func script(path string, argv []string) ([]string, error) {
	if err := textFile(path); err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	return append([]string{"sh", path}, argv[1:]...), nil
}

// notStarted turns the system's refusal to run path into an error of ours.
func notStarted(command, path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, serr := os.Stat(path); serr == nil {
			return &NotFoundError{command, "the interpreter that " + path + " names does not exist"}
		}
		return &NotFoundError{Command: command}
	case errors.Is(err, syscall.E2BIG):
		err = errors.New("its arguments and environment are too long for this system")
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return &NotExecutableError{command, path, err}
}

// lookup finds the file for a command the way a shell does, in the PATH of env.
func lookup(command string, env []string) (string, error) {
	if strings.Contains(command, "/") {
		return command, nil
	}
	path := "/usr/bin:/bin" // what execvp(3) searches when there is no PATH
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v // the first one is what getenv finds
			break
		}
	}
	var denied error
	var notRun string
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, command)
		reason := executable(file)
		if !filepath.IsAbs(dir) {
			if reason == nil && notRun == "" {
				notRun = "./" + file
			}
			continue
		}
		if reason == nil {
			return file, nil
		}
		if denied == nil && !errors.Is(reason, fs.ErrNotExist) && !errors.Is(reason, syscall.ENOTDIR) {
			denied = &NotExecutableError{command, file, reason}
		}
	}
	switch {
	case denied != nil:
		return "", denied
	case notRun != "":
		return "", relative(command, notRun)
	}
	return "", &NotFoundError{Command: command}
}

// executable says why a file found in PATH is not run: it does not exist, it is
// a folder, or its mode does not allow it. The kernel has the last word.
func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return errors.Unwrap(err)
	case st.IsDir():
		return syscall.EISDIR
	case st.Mode()&0o111 == 0:
		return syscall.EACCES
	}
	return nil
}

// textFile says whether a file that the kernel does not know how to run may be
// handed to a shell: as in bash, not when it looks binary.
func textFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return syscall.EACCES
	}
	defer f.Close()
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if bytes.IndexByte(head[:n], 0) >= 0 {
		return errors.New("the file is not a program for this system")
	}
	return nil
}
