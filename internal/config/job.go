package config

import (
	"encoding/json"
	"io"
	"os"
	"strings"
)

// maxEvent caps the description of an event that GitHub hands to a job.
const maxEvent = 32 << 20

// ForeignChange reports whether the job runs for a change from another
// repository, as far as the CI system tells: by pull_request.head.repo of the
// event (GitHub), "Predefined CI/CD variables reference" (GitLab, checked
// 2026-11-25), "Project values and variables" (CircleCI, checked 2026-11-25),
// "Predefined variables" (Azure), "Environment variables" (Buildkite). It is a
// help for people: whoever runs code in the job can change these variables.
func ForeignChange(env Env) bool {
	of := func(name string) string { return get(env, name) }
	event := of("GITHUB_EVENT_NAME")
	switch {
	case strings.HasPrefix(event, "pull_request") && event != "pull_request_target":
		return githubFork(of("GITHUB_EVENT_PATH"), of("GITHUB_REPOSITORY"))
	case of("CI_MERGE_REQUEST_SOURCE_PROJECT_ID") != "":
		return of("CI_MERGE_REQUEST_SOURCE_PROJECT_ID") != of("CI_MERGE_REQUEST_PROJECT_ID")
	case of("CIRCLE_PR_REPONAME") != "": // set for forks only
		return true
	case strings.EqualFold(of("SYSTEM_PULLREQUEST_ISFORK"), "true"):
		return true
	case of("BUILDKITE_PULL_REQUEST_REPO") != "":
		return repositoryPath(of("BUILDKITE_PULL_REQUEST_REPO")) != repositoryPath(of("BUILDKITE_REPO"))
	}
	return false
}

// githubFork reads the event that started a workflow. One that cannot be read
// counts as the repository's own.
func githubFork(path, repository string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var event struct {
		PullRequest struct {
			Head struct {
				Repo *struct {
					FullName string `json:"full_name"`
				} `json:"repo"`
			} `json:"head"`
		} `json:"pull_request"`
	}
	if json.NewDecoder(io.LimitReader(f, maxEvent)).Decode(&event) != nil {
		return false
	}
	head := event.PullRequest.Head.Repo
	return head == nil || !strings.EqualFold(head.FullName, repository) // nil: the fork was removed
}

// repositoryPath is owner and name of a repository, whichever way its address is
// written.
func repositoryPath(address string) string {
	address = strings.TrimSuffix(strings.TrimSuffix(address, "/"), ".git")
	parts := strings.FieldsFunc(address, func(r rune) bool { return r == '/' || r == ':' })
	if len(parts) < 2 {
		return address
	}
	return strings.ToLower(strings.Join(parts[len(parts)-2:], "/"))
}
