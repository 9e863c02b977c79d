"""Six classes of tests, which run in parallel."""

from django.test import TestCase

from .models import Item


class Base:
    count = 1

    @classmethod
    def setUpTestData(cls):
        for n in range(cls.count):
            Item.objects.create(name=f"item {n}", price=n)

    def test_count(self):
        assert Item.objects.count() == self.count

    def test_sum(self):
        prices = Item.objects.values_list("price", flat=True)
        assert sum(prices) == self.count * (self.count - 1) // 2


class OneTests(Base, TestCase):
    count = 1


class TwoTests(Base, TestCase):
    count = 2


class ThreeTests(Base, TestCase):
    count = 3


class FourTests(Base, TestCase):
    count = 4


class UserTests(TestCase):
    def test_user(self):
        from django.contrib.auth.models import User

        User.objects.create(username="somebody")
        assert User.objects.get().username == "somebody"


class DeleteTests(Base, TestCase):
    count = 5

    def test_delete(self):
        Item.objects.filter(price__gt=2).delete()
        assert Item.objects.count() == 3
