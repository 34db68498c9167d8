"""A workload that reads a secret, knowing DefaultAzureCredential and SecretClient; everything else is in its environment."""

import os
import sys

from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient


def main() -> None:
    # The SDK wants vaults to be below the domain of their resource, which localhost can't be; this is its own switch.
    client = SecretClient(os.environ["VAULT_URL"], DefaultAzureCredential(), verify_challenge_resource=False)
    try:
        secret = client.get_secret(os.environ["SECRET_NAME"])
    except HttpResponseError as error:
        sys.exit(f"{error.status_code} {error}")
    print(f"{secret.name} {secret.value} {secret.properties.version}")


if __name__ == "__main__":
    main()
