import os, httpx

with httpx.Client(headers={"Authorization": "Bearer " + os.environ["SANDBOX_ACCESS_TOKEN"]}, timeout=20) as client:
    answer = client.get(os.environ["API"] + "/me")
    answer.raise_for_status()
    print(answer.json()["name"])
