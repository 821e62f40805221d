import asyncio

from pando.waiting import until


def test_it_ends_when_the_condition_holds_or_the_time_is_over():
    async def scenario():
        looks = []
        await until(lambda: len(looks) > 2 or looks.append(None), 20.0)
        assert len(looks) == 3
        await until(lambda: False, 0.001)

    asyncio.run(asyncio.wait_for(scenario(), 10))
