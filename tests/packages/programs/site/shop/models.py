"""What the tests store."""

from django.db import models


class Item(models.Model):
    """Something with a name and a price."""

    name = models.CharField(max_length=20, unique=True)
    price = models.IntegerField()
