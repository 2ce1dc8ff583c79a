import os, requests

session = requests.Session()
session.headers["Authorization"] = "Bearer " + os.environ["SANDBOX_ACCESS_TOKEN"]
for _ in range(2):
    answer = session.get(os.environ["API"] + "/me", timeout=20)
    answer.raise_for_status()
print(answer.json()["name"])
